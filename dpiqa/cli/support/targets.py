"""Images that a command line names: files, folders, objects under an S3 prefix."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dpiqa.addresses import S3Address, is_s3, parse_s3
from dpiqa.cli.support.console import note
from dpiqa.errors import ConfigurationError, ImageRejected, InvalidRequest, NotFound, ObjectGone
from dpiqa.files import expanded
from dpiqa.objects.store import ObjectStore
from dpiqa.sources.folders import find_files
from dpiqa.sources.names import is_no_image
from dpiqa.types import ImageRef


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
    path = expanded(word)
    if path.is_dir():
        return _below(path)
    if not path.exists() and not path.is_symlink():
        raise NotFound(f"{path} does not exist", hint="name a file, a folder or s3://bucket/prefix")
    if path.exists() and not path.is_file():
        raise InvalidRequest(f"{path} is not a regular file", hint="name a file, a folder or s3://bucket/prefix")
    return (path,)


def _below(folder: Path) -> tuple[Path, ...]:
    """Return the files below a folder; says on stderr what was passed over."""
    try:
        found = find_files(folder)
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be read: {error.strerror}", hint="check its permissions") from None
    words = found.words()
    if not found.paths:
        what = f"; passed over: {words}" if words else ""
        raise NotFound(f"no images are in {folder}{what}", hint="name a file itself to have it scored in any case")
    if words:
        note(f"passed over in {folder}: {words}")
    return tuple(found.paths)


def local_refs(targets: Sequence[Target]) -> list[ImageRef]:
    """Return each named file once, in the order named."""
    files = dict.fromkeys(path for target in targets for path in target.files)
    return [ImageRef(bucket="", key=str(path), etag="") for path in files]


def s3_refs(store: ObjectStore, address: S3Address) -> Iterator[ImageRef]:
    """Yield the object with exactly this key, or else all images under the prefix, by their names.

    Raises `NotFound` when there is none, and says on stderr what was passed over.

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
    n_passed_over = n_objects = 0
    for page in store.list(address.bucket, address.key):
        for ref in page:
            if is_no_image(ref.key):
                n_passed_over += 1
            else:
                n_objects += 1
                yield ImageRef(bucket=ref.bucket, key=ref.key, etag="")
    if n_passed_over:
        note(f"passed over under {address}: by name no image {n_passed_over:,}")
    if not n_objects:
        what = "no image" if n_passed_over else "no object"
        raise NotFound(f"{what} is under {address}", hint="check bucket and prefix; keys are case-sensitive")
