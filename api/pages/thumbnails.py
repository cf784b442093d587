"""Thumbnails of objects: made on demand in the killable decoder, kept on disk for a while, never public."""

import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import structlog
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from dpiqa.addresses import object_address
from dpiqa.errors import DpiqaError, ImageRejected, NotFound, ObjectChanged, ObjectGone, Unavailable
from dpiqa.files import replace_file
from dpiqa.http_api.common import Bucket, Key
from dpiqa.imaging.decode import Limits
from dpiqa.imaging.pool import DecodePool
from dpiqa.imaging.renditions import rendition_of
from dpiqa.imaging.thumbnails import MAX_SIDE, encode_thumbnail, thumbnail_preprocessing
from dpiqa.objects.stores import Stores, open_stores
from dpiqa.settings import Settings
from dpiqa.storage.engine import reading
from dpiqa.storage.lookups import current_version
from dpiqa.storage.requirement_queries import is_example
from dpiqa.text import first_line
from dpiqa.types import ImageRef

from ..dependencies import EngineDep, ReaderDep

_PROCESSES = 2  #: decoders of one API process
#: Thumbnails that are made or wait at once, of the 40 threads that all requests share: more are refused, so that a slow
#: store takes no thread from the other routes. A browser asks for six at a time.
_AT_ONCE = 16
_CHECK_SIDE = 64  #: pixels of what an upload is decoded to
_KEPT_SECONDS = 7 * 86_400  #: after which a kept thumbnail is made again

log = structlog.get_logger()
router = APIRouter(include_in_schema=False)


class ThumbnailFiles:
    """Thumbnails on disk, the oldest removed first where they are more than `max_bytes`. Thread-safe."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder, self._max_bytes, self._lock = folder, max_bytes, threading.Lock()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def read(self, name: str) -> bytes | None:
        """Return a thumbnail; None where there is none, or one that is too old."""
        path = self._folder / name
        try:
            if time.time() - path.stat().st_mtime > _KEPT_SECONDS:
                return None
            return path.read_bytes()
        except OSError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Keep a thumbnail, if there is room for any."""
        if len(data) > self._max_bytes:
            return
        with self._lock:  # two requests may have made the same one
            replace_file(self._folder / name, lambda path: path.write_bytes(data), private=True)
            self._shrink()

    def _shrink(self) -> None:
        entries = [(entry.stat().st_mtime, entry.stat().st_size, entry.path) for entry in os.scandir(self._folder)]
        excess = sum(size for _, size, _ in entries) - self._max_bytes
        for _, size, path in sorted(entries):
            if excess <= 0:
                break
            Path(path).unlink(missing_ok=True)
            excess -= size


class Thumbnails:
    """Makes thumbnails for one API process; decoders start with the first one."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._limits = Limits.from_settings(settings)
        self.max_bytes = self._limits.max_bytes  #: of a picture
        self._lock = threading.Lock()
        self._pool: DecodePool | None = None
        self._stores: Stores | None = None
        self._turns = threading.BoundedSemaphore(_AT_ONCE)
        self._files: ThumbnailFiles | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="dpiqa-thumbnails-", ignore_cleanup_errors=True)
        if settings.thumbnail_cache_bytes:
            self._files = ThumbnailFiles(Path(self._folder.name), settings.thumbnail_cache_bytes)

    def read(self, ref: ImageRef, side: int) -> bytes:
        """Return a JPEG of an object. Raises `ImageRejected`, `Unavailable`, and as `ObjectStore.get`."""
        identity = "\0".join((ref.bucket, ref.key, ref.etag, str(side)))
        name = hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()
        kept = self._files.read(name) if self._files is not None and ref.etag else None
        if kept is not None:
            return kept
        with self._turn():
            data = self._make(ref, side)
        if self._files is not None and ref.etag:
            self._files.write(name, data)
        return data

    def check(self, data: bytes) -> None:
        """Decode a picture that was uploaded. Raises `ImageRejected` with the reason, `Unavailable`."""
        with self._turn():
            pool, _ = self._parts()
            preprocessing = thumbnail_preprocessing(_CHECK_SIDE).rendered(rendition_of(data, self._limits))
            pool.submit(data, preprocessing).result()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._turns.acquire(blocking=False):
            raise Unavailable("too many pictures are being decoded", hint="try again in a moment")
        try:
            yield
        finally:
            self._turns.release()

    def _make(self, ref: ImageRef, side: int) -> bytes:
        pool, stores = self._parts()
        fetched = stores.get(ref, self._limits.max_bytes)
        preprocessing = thumbnail_preprocessing(side).rendered(rendition_of(fetched.data, self._limits))
        return encode_thumbnail(pool.submit(fetched.data, preprocessing).result())

    def _parts(self) -> tuple[DecodePool, Stores]:
        with self._lock:
            if self._pool is None or self._stores is None:
                self._pool = DecodePool(_PROCESSES, self._limits)
                self._stores = open_stores(self._settings)
            return self._pool, self._stores

    def close(self) -> None:
        """End the decoders and remove the files."""
        with self._lock:
            if self._pool is not None:
                self._pool.close()
                self._pool = None
        self._folder.cleanup()


@router.get("/thumbnail")
def thumbnail(
    request: Request,
    caller: ReaderDep,
    engine: EngineDep,
    bucket: Annotated[Bucket, Query()],
    key: Annotated[Key, Query()],
    etag: Annotated[str, Query(max_length=1024)] = "",
    side: Annotated[int, Query(ge=16, le=MAX_SIDE)] = 256,
) -> Response:
    """Show a small picture of an object; for one that cannot be decoded, its reason as a picture of text."""
    thumbnails: Thumbnails = request.app.state.thumbnails
    with reading(engine) as connection:  # only what the ledger names: the pages are not a way into the store
        try:
            ref = current_version(connection, bucket, key, caller.grants)
        except NotFound:
            if not is_example(connection, object_address(bucket, key), caller.grants):
                raise
            ref = ImageRef(bucket=bucket, key=key, etag="")
    # A version that is named cannot change; without, the newest is asked for each time.
    headers = {"Cache-Control": "private, max-age=3600" if etag == ref.etag else "no-store"}
    headers["Content-Security-Policy"] = "default-src 'none'"
    try:
        return Response(thumbnails.read(ref, side), media_type="image/jpeg", headers=headers)
    except ImageRejected as rejection:
        text = rejection.reason.replace("_", " ")
    except ObjectChanged:
        text = "replaced by a newer version"
    except ObjectGone:
        text = "deleted"
    except DpiqaError as error:
        log.warning("thumbnail_failed", address=object_address(bucket, key), error=first_line(error))
        text = "cannot be shown now"
    return Response(_words(text), media_type="image/svg+xml", headers={**headers, "Cache-Control": "no-store"})


def _words(text: str) -> str:
    """Return an SVG picture of a short text."""
    shown = "".join(c if c.isalnum() or c in " :/._-" else " " for c in text)[:40]
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 256 192" width="256" height="192">'
        '<rect width="256" height="192" fill="#e4e4e7"/>'
        '<text x="128" y="100" font-family="sans-serif" font-size="16" text-anchor="middle" fill="#3f3f46">'
        f"{shown}</text>"
        "</svg>"
    )
