"""Examples of a requirement as its form sends them: pictures of the archive, and uploads that are stored beside it."""

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from fastapi import UploadFile

from dpiqa.access import Grants
from dpiqa.addresses import S3Address, parse_s3
from dpiqa.errors import ImageRejected, InvalidRequest
from dpiqa.objects.s3 import S3Store
from dpiqa.requirement import MAX_PAIRS

from .thumbnails import Thumbnails

MAX_UPLOAD_BYTES = 256 * 1024 * 1024  #: of all files of one form
_MAX_NAMED = 10  #: pictures that one message names
_MAX_NAME = 80  #: characters of a file's name that are kept
_SCORE_HINT = "write a number from 0 to 1, such as 0.75"


@dataclass(frozen=True, slots=True)
class Upload:
    """A picture that was sent with a form, checked, and where it will be stored."""

    file: UploadFile
    address: S3Address


def scored(names: Sequence[str], scores: Sequence[str]) -> list[tuple[int, float]]:
    """Return the rows of a form that have a score, as position and score. Raises `InvalidRequest` for a wrong one."""
    rows = []
    for position, (name, text) in enumerate(zip(names, scores, strict=False)):
        if not text.strip():
            continue
        try:
            score = float(text.strip().replace(",", "."))
        except ValueError:
            score = math.nan
        if not 0 <= score <= 1:
            raise InvalidRequest(f"{name}: {text[:20]!r} is not a score", hint=_SCORE_HINT)
        rows.append((position, score))
    return rows


def check_uploads(files: Sequence[UploadFile], folder: str, grants: Grants, thumbnails: Thumbnails) -> list[Upload]:
    """Check that uploads can be decoded, and decide where they go: under `folder`, by the digest of their bytes.

    Nothing is stored yet. Raises `InvalidRequest` naming every picture that cannot be used, with its reason, and for a
    folder that is not an address in S3; `NotFound` for one beyond the grants; `Unavailable`.
    """
    if len(files) > MAX_PAIRS:
        raise InvalidRequest(f"{len(files)} pictures are too many", hint=f"send at most {MAX_PAIRS}")
    if not files:
        return []
    if not folder.strip():
        raise InvalidRequest("the uploads have no place", hint="name a folder in S3, such as s3://photos/requirements/")
    place = parse_s3(folder.strip().rstrip("/") + "/")
    grants.require(place.bucket, place.key)
    uploads, unusable = [], []
    for file in files:
        if (file.size or 0) > thumbnails.max_bytes:
            unusable.append(f"{_shown(file)}: larger than {thumbnails.max_bytes} bytes")
            continue
        data = file.file.read()
        try:
            thumbnails.check(data)
        except ImageRejected as error:
            unusable.append(f"{_shown(file)}: {error.message}")
            continue
        name = f"{hashlib.sha256(data).hexdigest()[:16]}-{_shown(file)}"
        uploads.append(Upload(file, S3Address(place.bucket, place.key + name)))
    if unusable:
        more = f"; and {len(unusable) - _MAX_NAMED} more" if len(unusable) > _MAX_NAMED else ""
        raise InvalidRequest(
            f"{len(unusable)} of {len(files)} uploads cannot be used: {'; '.join(unusable[:_MAX_NAMED])}{more}",
            hint="replace them",
        )
    return uploads


def store_uploads(store: S3Store, uploads: Sequence[Upload]) -> None:
    """Store uploads that were checked; the same bytes of the same name are the same object. Raises as `S3Store.put`."""
    for upload in uploads:
        upload.file.file.seek(0)
        media_type = upload.file.content_type or ""
        is_image = re.fullmatch(r"image/[a-z0-9.+-]{1,40}", media_type) is not None
        store.put(
            upload.address.bucket,
            upload.address.key,
            [upload.file.file.read()],
            media_type=media_type if is_image else "application/octet-stream",
        )


def _shown(file: UploadFile) -> str:
    """Return the name of a file as messages and keys have it."""
    name = PurePath((file.filename or "").replace("\\", "/")).name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)[-_MAX_NAME:].lstrip("-.") or "picture"
