"""Images that a command line names: files, folders, objects under an S3 prefix."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dpiqa.addresses import S3Address, is_s3, parse_s3
from dpiqa.errors import ImageRejected, InvalidRequest, NotFound, ObjectGone
from dpiqa.objects.store import ObjectStore
from dpiqa.types import ImageRef

#: Extensions of the files that are looked for in a folder. A file that is named explicitly may have any.
#: HEIC and JPEG 2000 are included and reported as rejected: better than skipping a user's photographs silently.
EXTENSIONS = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".avif"})
EXTENSIONS |= {".heic", ".heif", ".jp2"}


@dataclass(frozen=True, slots=True)
class Target:
    """Files or S3 address that one word of the command line names."""

    files: tuple[Path, ...] = ()
    address: S3Address | None = None


def parse_targets(words: Sequence[str]) -> list[Target]:
    """Resolve each word. Raises `NotFound` or `InvalidRequest` before any work is done."""
    if len({is_s3(word) for word in words}) > 1:
        raise InvalidRequest("files and S3 addresses cannot be mixed", hint="run the command once for each")
    return [Target(address=parse_s3(word)) if is_s3(word) else Target(files=_files(word)) for word in words]


def _files(word: str) -> tuple[Path, ...]:
    path = Path(word).expanduser()
    if path.is_dir():
        files = tuple(_walk(path))
        if not files:
            raise NotFound(f"no images are in {path}", hint=f"known extensions: {' '.join(sorted(EXTENSIONS))}")
        return files
    if not path.exists():
        raise NotFound(f"{path} does not exist", hint="name a file, a folder or s3://bucket/prefix")
    if not path.is_file():
        raise InvalidRequest(f"{path} is not a regular file", hint="name a file, a folder or s3://bucket/prefix")
    return (path,)


def _walk(folder: Path) -> Iterator[Path]:
    """Yield image files below a folder in a stable order. Links to folders are not followed: they may form a cycle."""
    for root, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(root, name)
            if path.suffix.lower() in EXTENSIONS and path.is_file():
                yield path


def local_refs(targets: Sequence[Target]) -> list[ImageRef]:
    """Return each named file once, in the order named."""
    files = dict.fromkeys(path for target in targets for path in target.files)
    return [ImageRef(bucket="", key=str(path), etag="") for path in files]


def s3_refs(store: ObjectStore, address: S3Address) -> Iterator[ImageRef]:
    """Yield the object with exactly this key, or else all under the prefix. Raises `NotFound` when there is none.

    The refs have no ETag: the bytes at the time of reading count.
    """
    if address.key and not address.key.endswith("/"):
        try:
            store.head(address.bucket, address.key)
        except (ObjectGone, ImageRejected):
            pass  # a prefix, or a key that may be listed but not read
        else:
            yield ImageRef(bucket=address.bucket, key=address.key, etag="")
            return
    is_empty = True
    for page in store.list(address.bucket, address.key):
        for ref in page:
            is_empty = False
            yield ImageRef(bucket=ref.bucket, key=ref.key, etag="")
    if is_empty:
        raise NotFound(f"no object is under {address}", hint="check bucket and prefix; keys are case-sensitive")
