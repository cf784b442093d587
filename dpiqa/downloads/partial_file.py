"""Partial file of a download: the bytes received so far, and the state that says which file they belong to."""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import FileIO
from pathlib import Path

from dpiqa.downloads.responses import Body, Interrupted
from dpiqa.errors import ConfigurationError
from dpiqa.files import locked

#: Bytes fetched again when a download is resumed: they must equal those on disk, or the file at the source has changed.
OVERLAP = 64 * 1024
_CHANGED = "the file at the source has changed"


@contextmanager
def open_partial_file(target: Path) -> Iterator["PartialFile"]:
    """Open the partial file of `target`, which one process at a time may do.

    Raises `ConfigurationError` if another process is downloading to `target`, or the folder cannot be written.
    """
    busy = ConfigurationError(f"another process is downloading {target.name}", hint="wait until it has ended")
    lock = target.with_name(target.name + ".part.lock")
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(lock, wait=False, busy=busy, remove=True))
            file = stack.enter_context(target.with_name(target.name + ".part").open("a+b", buffering=0))
        except OSError as error:
            raise _disk_error(target, error) from error
        yield PartialFile(target, file)


class PartialFile:
    """`TARGET.part` and, beside it, `TARGET.part.json`. Made by `open_partial_file`."""

    def __init__(self, target: Path, file: FileIO) -> None:
        """Read the state; without one that can be read, the bytes may belong to another file and are dropped."""
        self.total: int | None = None  #: bytes of the whole file; None: unknown
        self.validator = ""  #: of the version that the bytes belong to, see `Body`
        self._target, self._file = target, file
        self._state = target.with_name(target.name + ".part.json")
        try:
            state = json.loads(self._state.read_bytes())
            self.total, self.validator = state["total"], str(state["validator"])
        except (OSError, ValueError, KeyError, TypeError):
            self.reset()

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self._file.seek(0, 2)

    @property
    def resume_from(self) -> int:
        """Offset of the first byte to request."""
        return max(0, self.size - OVERLAP)

    @property
    def request_headers(self) -> dict[str, str]:
        """Headers of a request for the missing bytes."""
        headers = {"Accept-Encoding": "identity"}
        if self.size:
            headers["Range"] = f"bytes={self.resume_from}-"
            if self.validator:
                headers["If-Range"] = self.validator
        return headers

    def begin(self, body: Body) -> int:
        """Accept the response to a request; returns the offset of its first byte.

        Raises `Interrupted` if the file at the source has changed, `ConfigurationError` if the disk lacks space for it.
        """
        is_other_range = body.offset != self.resume_from or (self.total is not None and body.total != self.total)
        if body.offset and is_other_range:
            self.reset()
            raise Interrupted(_CHANGED)
        if not body.offset:
            self.reset()
        self.total, self.validator = body.total, body.validator or self.validator
        missing = (self.total or 0) - self.size
        free = shutil.disk_usage(self._target.parent).free
        if missing > free:
            raise ConfigurationError(
                f"{self._target.name} needs {missing:,} bytes more, and {free:,} are free at {self._target.parent}",
                hint="free some space, or set DPIQA_MODELS_DIR to a folder on a larger disk",
            )
        try:
            self._state.write_text(json.dumps({"total": self.total, "validator": self.validator}), encoding="utf-8")
        except OSError as error:
            raise _disk_error(self._target, error) from error
        return body.offset

    def write(self, offset: int, data: bytes) -> None:
        """Store `data` at `offset`; bytes that are on disk already must be equal, else `Interrupted` is raised."""
        overlap = max(0, min(self.size - offset, len(data)))
        self._file.seek(offset)
        if overlap and self._file.read(overlap) != data[:overlap]:
            self.reset()
            raise Interrupted(_CHANGED)
        rest = memoryview(data)[overlap:]
        try:
            while rest:  # an unbuffered file may take less than it is given
                rest = rest[self._file.write(rest) :]  # opened to append: to the end, which is at `offset + overlap`
        except OSError as error:
            raise _disk_error(self._target, error) from error

    def finish(self) -> None:
        """Move the file to its target. Raises `Interrupted` if it is not complete."""
        if self.total is not None and self.size != self.total:
            is_short = self.size < self.total
            if not is_short:
                self.reset()
            raise Interrupted(f"the server announced {self.total:,} bytes and sent {'fewer' if is_short else 'more'}")
        try:
            os.fsync(self._file.fileno())
            self._target.with_name(self._target.name + ".part").replace(self._target)
            self._state.unlink(missing_ok=True)
        except OSError as error:
            raise _disk_error(self._target, error) from error

    def reset(self) -> None:
        """Drop all bytes: the next try starts from the beginning."""
        if self.size:
            self._file.truncate(0)
        self.total, self.validator = None, ""
        self._state.unlink(missing_ok=True)


def _disk_error(target: Path, error: OSError) -> ConfigurationError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        hint = "free some space, or set DPIQA_MODELS_DIR to a larger disk; partial data is kept"
    else:
        hint = "check the folder's permissions, or set DPIQA_MODELS_DIR to another folder"
    return ConfigurationError(f"{target} cannot be written: {error.strerror or error}", hint=hint)
