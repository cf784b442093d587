"""What `dpiqa score` was pointed at, as images to fetch: files, folders, objects under a prefix."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dpiqa.addresses import S3Address, is_s3, parse_s3
from dpiqa.errors import ImageRejected, InvalidRequest, NotFound, ObjectGone
from dpiqa.objects.store import ObjectStore
from dpiqa.types import ImageRef

#: Files that a folder is searched for. A file that is named explicitly may be called anything.
#: HEIC and JPEG 2000 are looked at too, and reported as rejected: better than to pass over somebody's photographs.
EXTENSIONS = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".avif"})
EXTENSIONS |= {".heic", ".heif", ".jp2"}


@dataclass(frozen=True, slots=True)
class Place:
    """One thing the user named."""

    files: tuple[Path, ...] = ()
    address: S3Address | None = None


def find_places(targets: Sequence[str]) -> list[Place]:
    """Say what each target is. Raises `NotFound` or `InvalidRequest` before any work is done."""
    if len({is_s3(target) for target in targets}) > 1:
        raise InvalidRequest("files and S3 addresses cannot be mixed", hint="run the command once for each")
    return [Place(address=parse_s3(target)) if is_s3(target) else Place(files=_files(target)) for target in targets]


def _files(target: str) -> tuple[Path, ...]:
    path = Path(target).expanduser()
    if path.is_dir():
        found = tuple(_walk(path))
        if not found:
            raise NotFound(f"no images are in {path}", hint=f"known extensions: {' '.join(sorted(EXTENSIONS))}")
        return found
    if not path.exists():
        raise NotFound(f"{path} does not exist", hint="name a file, a folder or s3://bucket/prefix")
    if not path.is_file():
        raise InvalidRequest(f"{path} is no regular file", hint="name a file, a folder or s3://bucket/prefix")
    return (path,)


def _walk(folder: Path) -> Iterator[Path]:
    """Image files below a folder in a stable order. Links to folders are not followed: they may lead in circles."""
    for root, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(root, name)
            if path.suffix.lower() in EXTENSIONS and path.is_file():
                yield path


def local_refs(places: Sequence[Place]) -> list[ImageRef]:
    """Return each named file once, in the order named."""
    files = dict.fromkeys(path for place in places for path in place.files)
    return [ImageRef(bucket="", key=str(path), etag="") for path in files]


def s3_refs(store: ObjectStore, address: S3Address) -> Iterator[ImageRef]:
    """Yield the object of exactly this key, or else all under the prefix. Raises `NotFound` when there is none.

    The refs carry no ETag: what is there when it is read counts.
    """
    if address.key and not address.key.endswith("/"):
        try:
            store.head(address.bucket, address.key)
        except (ObjectGone, ImageRejected):
            pass  # a prefix; or keys of which a look is not allowed while a listing may be
        else:
            yield ImageRef(bucket=address.bucket, key=address.key, etag="")
            return
    found = False
    for page in store.list(address.bucket, address.key):
        for ref in page:
            found = True
            yield ImageRef(bucket=ref.bucket, key=ref.key, etag="")
    if not found:
        raise NotFound(f"no object is under {address}", hint="check bucket and prefix; keys are case-sensitive")
