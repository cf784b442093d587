"""The part of a file that has come so far, and what is known of the whole."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

from dpiqa.downloads.answers import Body
from dpiqa.downloads.errors import Interrupted
from dpiqa.errors import ConfigurationError
from dpiqa.files import locked

#: Bytes fetched again when going on: they must be those that came before, or the file is another now.
OVERLAP = 64 * 1024


@dataclass
class Part:
    """`TARGET.part` and, beside it, `TARGET.part.json`. One process at a time; a context manager."""

    target: Path
    total: int | None = None
    validator: str = ""
    _file: FileIO = field(init=False)
    _close: Callable[[], None] = field(init=False)

    def __enter__(self) -> Self:
        busy = ConfigurationError(f"another process is downloading {self.target.name}", hint="wait until it has ended")
        lock = self.target.with_name(self.target.name + ".part.lock")
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(lock, wait=False, busy=busy, remove=True))
                self._file = stack.enter_context(self._path.open("a+b", buffering=0))
            except OSError as error:
                raise self._trouble(error) from error
            self._read_state()
            self._close = stack.pop_all().close
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    @property
    def have(self) -> int:
        """Bytes that are here."""
        return self._file.seek(0, 2)

    @property
    def start(self) -> int:
        """From which byte to ask."""
        return max(0, self.have - OVERLAP)

    @property
    def headers(self) -> dict[str, str]:
        """Headers of a request for what is missing."""
        plain = {"Accept-Encoding": "identity"}
        if not self.have:
            return plain
        condition = {"If-Range": self.validator} if self.validator else {}
        return plain | {"Range": f"bytes={self.start}-"} | condition

    def begin(self, body: Body) -> int:
        """Take the answer to a request; returns where its bytes go. Starts again where the file is another one now."""
        others = body.offset and (body.offset != self.start or (self.total is not None and body.total != self.total))
        if others:
            self.reset()
            raise Interrupted("the file at the source is another one than before")
        if not body.offset:
            self.reset()
        self.total, self.validator = body.total, body.validator or self.validator
        self._require_room()
        try:
            self._state.write_text(json.dumps({"total": self.total, "validator": self.validator}), encoding="utf-8")
        except OSError as error:
            raise self._trouble(error) from error
        return body.offset

    def put(self, place: int, data: bytes) -> None:
        """Store `data` at `place`; bytes that are here already must be equal."""
        known = max(0, min(self.have - place, len(data)))
        self._file.seek(place)
        if known and self._file.read(known) != data[:known]:
            self.reset()
            raise Interrupted("the file at the source is another one than before")
        fresh = memoryview(data)[known:]
        try:
            while fresh:  # an unbuffered file may take less than it is given
                fresh = fresh[self._file.write(fresh) :]  # opened to append: to the end, which is at `place + known`
        except OSError as error:
            raise self._trouble(error) from error

    def finish(self) -> None:
        """Put the file in its place. Raises `Interrupted` if it is not whole."""
        if self.total is not None and self.have != self.total:
            short = self.have < self.total
            if not short:
                self.reset()
            raise Interrupted(f"the server announced {self.total:,} bytes and sent {'fewer' if short else 'more'}")
        try:
            os.fsync(self._file.fileno())
            self._path.replace(self.target)
            self._state.unlink(missing_ok=True)
        except OSError as error:
            raise self._trouble(error) from error

    def reset(self) -> None:
        """Forget everything: the next try starts from the beginning."""
        if self.have:
            self._file.truncate(0)
        self.total, self.validator = None, ""
        self._state.unlink(missing_ok=True)

    @property
    def _path(self) -> Path:
        return self.target.with_name(self.target.name + ".part")

    @property
    def _state(self) -> Path:
        return self.target.with_name(self.target.name + ".part.json")

    def _read_state(self) -> None:
        """Without a state that can be read, what is here cannot be trusted to be of the same file."""
        try:
            state = json.loads(self._state.read_bytes())
            self.total, self.validator = state["total"], str(state["validator"])
        except (OSError, ValueError, KeyError, TypeError):
            self.reset()

    def _require_room(self) -> None:
        missing = (self.total or 0) - self.have
        free = shutil.disk_usage(self.target.parent).free
        if missing > free:
            raise ConfigurationError(
                f"{self.target.name} needs {missing:,} bytes more, and {free:,} are free at {self.target.parent}",
                hint="make room, or set DPIQA_MODELS_DIR to a folder on a larger disk",
            )

    def _trouble(self, error: OSError) -> ConfigurationError:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            hint = "make room, or set DPIQA_MODELS_DIR to a larger disk; what came is kept"
        else:
            hint = "give yourself the right to write there, or set DPIQA_MODELS_DIR to another folder"
        return ConfigurationError(f"{self.target} cannot be written: {error.strerror or error}", hint=hint)
