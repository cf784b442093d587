"""Files that are whole or not there, and a folder that only one process trains in."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dpiqa.errors import InvalidRequest


def replace_file(path: Path, write: Callable[[Path], object]) -> Path:
    """Let `write` fill a file beside `path`, then put it in its place: whoever is killed leaves the old one whole."""
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    try:
        write(partial)
        _sync(partial)
        partial.replace(path)
        _sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)
    return path


def remove_partials(folder: Path) -> None:
    """Remove what killed processes left behind in a folder that is ours alone."""
    for path in folder.glob("*.partial-*"):
        path.unlink(missing_ok=True)


@contextmanager
def alone_in(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Make the folder ours while the block runs; a process that dies lets go of it.

    Where another living process has it: `wait` for that, else raise `InvalidRequest`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            hint = "wait for it, stop it, or choose another folder"
            raise InvalidRequest(f"another process is at work in {folder}", hint=hint) from error
        remove_partials(folder)
        yield


def _sync(path: Path) -> None:
    """Bring a file or folder to the disk before anything builds on it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
