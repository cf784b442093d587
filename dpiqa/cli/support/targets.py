"""Images that a command line names: files, folders, objects under an S3 prefix, lists of them. Read as they are needed.

Nothing is kept: `Targets.refs` reads folders, buckets and the list again each time, so that memory stays flat.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from itertools import islice
from pathlib import Path
from typing import IO

from dpiqa.addresses import S3Address, is_s3, parse_s3
from dpiqa.errors import ConfigurationError, ImageRejected, InvalidRequest, NotFound, ObjectGone
from dpiqa.files import expanded
from dpiqa.objects.store import ObjectStore
from dpiqa.sources.folders import PassedOver, find_files
from dpiqa.sources.names import is_no_image, matcher
from dpiqa.types import ImageRef

_HINT = "name a file, a folder or s3://bucket/prefix"
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Filters:
    """Part of the images in folders and under prefixes that counts. Files and objects that are named count anyway."""

    include: Sequence[str] = ()  #: globs, see `dpiqa.sources.names.matcher`; of a folder's files: paths inside it
    exclude: Sequence[str] = ()
    recursive: bool = True

    def admits(self, key: str, passed_over: PassedOver) -> bool:
        """Return whether the globs admit a key; counts the others."""
        include, exclude = _matcher(tuple(self.include)), _matcher(tuple(self.exclude))
        if (include is None or include(key)) and not (exclude is not None and exclude(key)):
            return True
        passed_over.add("left out by --include or --exclude")
        return False


@cache
def _matcher(globs: tuple[str, ...]) -> Callable[[str], bool] | None:
    return matcher(globs)


@dataclass(frozen=True, slots=True)
class Targets:
    """The images that words of a command line name: all on this machine, or all in S3."""

    paths: tuple[Path, ...] = ()
    addresses: tuple[S3Address, ...] = ()
    list_file: Path | None = None  #: a path or address on each line, or ended by NUL
    filters: Filters = field(default_factory=Filters)
    store: ObjectStore | None = None  #: of the addresses

    def refs(self, passed_over: PassedOver | None = None) -> Iterator[ImageRef]:
        """Yield each image once, in the order named, with its size and time where they are known.

        An object has the ETag that the listing says; a file has none. Raises `NotFound` for a prefix without images.
        """
        passed_over = passed_over or PassedOver()
        seen: set[tuple[str, str]] | None = set() if len(self.paths) + len(self.addresses) > 1 else None
        for ref in self._each(passed_over):
            if seen is not None:
                if (ref.bucket, ref.key) in seen:
                    continue
                seen.add((ref.bucket, ref.key))
            yield ref

    def _each(self, passed_over: PassedOver) -> Iterator[ImageRef]:
        for path in self.paths:
            yield from _below(path, self.filters, passed_over) if path.is_dir() else (file_ref(path),)
        for address in self.addresses:
            if self.store is not None:
                yield from s3_refs(self.store, address, self.filters, passed_over)
        if self.list_file is not None:
            for line in _lines(self.list_file):
                yield object_ref(line) if is_s3(line) else file_ref(expanded(line))

    def check(self) -> None:
        """Raise `NotFound` or `ConfigurationError` for what names nothing, before any work is done."""
        for path in self.paths:
            if path.is_dir():
                next(_below(path, self.filters, PassedOver()))


def parse_targets(words: Sequence[str], *, list_file: str | None = None, filters: Filters | None = None) -> Targets:
    """Resolve the words. Raises `NotFound`, `InvalidRequest` or `ConfigurationError` before any work is done."""
    if len({is_s3(word) for word in words}) > 1:
        raise InvalidRequest("files and S3 addresses cannot be mixed", hint="run the command once for each")
    paths = tuple(_path(word) for word in words if not is_s3(word))
    addresses = tuple(parse_s3(word) for word in words if is_s3(word))
    targets = Targets(paths, addresses, None, filters or Filters())
    targets.check()
    if list_file is not None:
        targets = Targets(list_file=_checked_list(list_file), filters=targets.filters)
    return targets


def list_is_s3(file: Path) -> bool:
    """Return whether a list names objects. Raises `InvalidRequest` for one that is empty or names files, too."""
    kinds = {is_s3(line) for line in _lines(file)}
    if len(kinds) > 1:
        raise InvalidRequest("files and S3 addresses cannot be mixed in a list", hint="make a list of each")
    if not kinds:
        raise InvalidRequest("the list names nothing", hint="write a path or s3://bucket/key on each line")
    return kinds.pop()


def local_files(word: str, limit: int | None = None) -> list[Path]:
    """Return the first files that one word names. Raises as `parse_targets`."""
    if is_s3(word):
        raise InvalidRequest(f"{word} is not on this machine", hint="name a folder of this machine")
    return [Path(ref.key) for ref in islice(parse_targets([word]).refs(), limit)]


def _path(word: str) -> Path:
    path = expanded(word)
    if not path.exists() and not path.is_symlink():
        raise NotFound(f"{path} does not exist", hint=_HINT)
    if path.exists() and not path.is_file() and not path.is_dir():
        raise InvalidRequest(f"{path} is not a regular file", hint=_HINT)
    return path


def _below(folder: Path, filters: Filters, passed_over: PassedOver) -> Iterator[ImageRef]:
    """Yield the files below a folder. Raises `NotFound` where there is none, `ConfigurationError`."""
    n_found = 0
    try:
        for path in find_files(folder, passed_over, recursive=filters.recursive):
            if filters.admits(str(path.relative_to(folder)), passed_over):
                n_found += 1
                yield file_ref(path)
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be read: {error.strerror}", hint="check its permissions") from None
    if not n_found:
        words = passed_over.words()
        what = f"; passed over: {words}" if words else ""
        raise NotFound(f"no images are in {folder}{what}", hint="name a file itself to have it scored in any case")


def file_ref(path: Path) -> ImageRef:
    """Return a file, with its size and time of modification where it can be looked at."""
    try:
        found = os.stat(path)  # noqa: PTH116 - a million of them
    except (OSError, ValueError):  # a link that leads nowhere, a name with NUL: reading it says so
        return ImageRef(bucket="", key=str(path), etag="")
    modified = datetime.fromtimestamp(found.st_mtime_ns // 1000 / 1e6, UTC)
    return ImageRef(bucket="", key=str(path), etag="", size=found.st_size, last_modified=modified)


def object_ref(text: str) -> ImageRef:
    """Return the object of an address. Raises `InvalidRequest`."""
    address = parse_s3(text)
    if not address.key:
        raise InvalidRequest(f"{text} names a bucket, not an object", hint="write s3://bucket/key in a list")
    return ImageRef(bucket=address.bucket, key=address.key, etag="")


def s3_refs(
    store: ObjectStore, address: S3Address, filters: Filters | None = None, passed_over: PassedOver | None = None
) -> Iterator[ImageRef]:
    """Yield the object with exactly this key, or else all images under the prefix, by their names.

    Raises `NotFound` when there is none.
    """
    filters, passed_over = filters or Filters(), passed_over or PassedOver()
    if address.key and not address.key.endswith("/"):
        try:
            ref = store.head(address.bucket, address.key)
        except (ObjectGone, ImageRejected):
            pass  # a prefix, or a key that may be listed but not read
        else:
            yield ref
            return
    n_objects = n_images = 0
    for page in store.list(address.bucket, address.key):
        for ref in page:
            n_objects += 1
            if is_no_image(ref.key):
                passed_over.add_no_image(ref.key.rpartition("/")[2])
            elif not filters.recursive and "/" in ref.key[len(address.key) :].lstrip("/"):
                passed_over.add("in folders")
            elif filters.admits(ref.key, passed_over):
                n_images += 1
                yield ref
    if not n_images:
        what = "no image" if n_objects else "no object"
        raise NotFound(f"{what} is under {address}", hint="check bucket and prefix; keys are case-sensitive")


def _checked_list(word: str) -> Path:
    """Return the file of a list; standard input is copied to a temporary one. Raises `NotFound`, `InvalidRequest`."""
    if word == "-":
        return _copy_of_stdin()
    path = expanded(word)
    if not path.exists():
        raise NotFound(f"{path} does not exist", hint="name a file with a path or s3://bucket/key on each line, or -")
    if path.is_dir():
        raise InvalidRequest(f"{path} is a folder", hint="name it without --list")
    return path


def _copy_of_stdin() -> Path:
    """Copy standard input to a file without a name that ends with this process, to be read more than once."""
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - open until the process ends
    shutil.copyfileobj(sys.stdin.buffer, copy)
    copy.flush()
    _KEPT.append(copy)
    return Path(f"/dev/fd/{copy.fileno()}")


_KEPT: list[IO[bytes]] = []  # files that this process keeps open


def _lines(file: Path) -> Iterator[str]:
    """Yield the lines of a list, or what NUL ends (`find -print0`). Raises `InvalidRequest`."""
    try:
        with closing(file.open("rb")) as stream:
            stream.seek(0)
            separator = b"\0" if b"\0" in stream.read(_BLOCK) else b"\n"
            stream.seek(0)
            rest = b""
            while block := stream.read(_BLOCK):
                *whole, rest = (rest + block).split(separator)
                yield from filter(None, map(_word, whole))
            if word := _word(rest):
                yield word
    except OSError as error:
        raise InvalidRequest(f"{file} cannot be read: {error.strerror}", hint="check its permissions") from None


def _word(line: bytes) -> str:
    return os.fsdecode(line.removesuffix(b"\r"))
