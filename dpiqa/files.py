"""Paths as users write them, atomic file replacement, and locks between processes."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dpiqa.errors import DpiqaError, InvalidRequest


def expanded(path: str | Path) -> Path:
    """Return a path as a user wrote it, with `~` and `~name` replaced by the home folder, where there is one."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path's own raises for an unknown user


def replace_file(path: Path, write: Callable[[Path], object], *, private: bool = False) -> Path:
    """Replace `path` by a file that `write` fills: readers see the old file or the new one, never a part.

    `write` gets the path of a new file in the same folder. Its bytes are on the disk before it takes the place of
    `path`, so that a crash of the machine leaves a whole file, too. `private`: only the owner may read it (mode 0600).
    A symbolic link stays, and the file that it names is replaced. Devices, pipes and sockets (`/dev/null`,
    `/dev/stdout`, `>(gzip)`) are written to. Returns `path`. Raises `OSError`, and whatever `write` raises; then the
    old file stays.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        write(path)
        return path
    target = path.resolve() if path.is_symlink() else path
    partial = target.with_name(f"{target.name}.partial-{os.getpid()}")
    try:
        if private:  # `write` opens a file that exists, which keeps its mode
            partial.unlink(missing_ok=True)
            os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        write(partial)
        _sync(partial)
        partial.replace(target)
        _sync(target.parent)
    finally:
        partial.unlink(missing_ok=True)
    return path


def replace_text(path: Path, text: str, *, private: bool = False) -> Path:
    """Replace `path` by a file with this text in UTF-8. Parameters and errors as of `replace_file`."""
    return replace_file(path, lambda partial: partial.write_text(text, "utf-8"), private=private)


@contextmanager
def locked(path: Path, *, wait: bool = True, busy: DpiqaError | None = None, remove: bool = False) -> Iterator[None]:
    """Hold the lock file `path` during the block. The kernel frees the lock of a process that dies.

    Where another process holds it: wait without end, or, with `wait=False`, raise `busy` (by default an
    `InvalidRequest`). `remove`: delete the file at the end; otherwise it stays, which is harmless. A missing folder is
    created. Raises `OSError` if the file cannot be opened for writing.
    """
    from filelock import FileLock, Timeout  # noqa: PLC0415 - 30 ms that a command without locks does not need

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout as error:
        hint = "wait for it, stop it, or choose another folder"
        raise busy or InvalidRequest(f"another process is using {path.parent}", hint=hint) from error
    try:
        yield
    finally:
        if remove:
            path.unlink(missing_ok=True)
        lock.release()


@contextmanager
def locked_folder(folder: Path, *, wait: bool = True, name: str = "lock") -> Iterator[None]:
    """Hold the lock file `name` in `folder` during the block, and remove unfinished files of killed processes first.

    Waits, or raises, as `locked` does.
    """
    with locked(folder / name, wait=wait):
        for path in folder.glob("*.partial-*"):
            path.unlink(missing_ok=True)
        yield


def _sync(path: Path) -> None:
    """Flush a file or folder to the disk before anything builds on it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:  # some network file systems do not flush folders
        if not (path.is_dir() and error.errno in {errno.EINVAL, errno.EBADF}):
            raise
    finally:
        os.close(descriptor)
