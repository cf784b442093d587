"""The command line's way out to terminal, file or pipe: encodings, closed pipes, full disks, Ctrl-C."""

import errno
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn, TextIO

from rich.console import Console

from dpiqa.cli.support.console import show_error
from dpiqa.exit_codes import ExitCode, SignalExitCode

_NOT_WRITTEN = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})  #: errors of writing, of no named file
_HINT = "check the path, its permissions and the space on its disk"


def run(app: Callable[..., Any]) -> NoReturn:
    """Run the command line and end the process with its exit code.

    Characters that the terminal's encoding lacks are written as escapes. A reader of stdout that goes away, as `head`
    does, ends the command quietly, with the code of SIGPIPE.
    """
    for name in ("stdout", "stderr"):
        _prepare(name)
    Console.on_broken_pipe = _on_broken_pipe  # type: ignore[assignment,method-assign]  # also of typer's own consoles
    signal.signal(signal.SIGINT, signal.default_int_handler)  # until here it ended the process at once
    code: int = ExitCode.OK
    try:
        app(prog_name="dpiqa")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else ExitCode.INCOMPLETE if end.code else ExitCode.OK
        if type(sys.stdout).__name__ == "PacifyFlushWrapper":  # typer met a closed pipe, and set the code 1
            code = SignalExitCode.PIPE_CLOSED
    except KeyboardInterrupt:
        code = SignalExitCode.INTERRUPTED
    except OSError as error:  # while help is printed; a command's own are met in `groups`
        if not show_os_error(error):
            raise
        code = ExitCode.CONFIGURATION
    sys.exit(_close(code))


def _on_broken_pipe(_: Console) -> NoReturn:
    _discard(1)
    raise SystemExit(SignalExitCode.PIPE_CLOSED)


def _prepare(name: str) -> None:
    """Let a stream escape what its encoding lacks. One that is closed (`>&-`) swallows what is written."""
    stream: TextIO | None = getattr(sys, name)
    if stream is None:
        setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 - open until the end
    elif hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")


def _close(code: int) -> int:
    """Write what is left in the buffers; return the exit code. What stderr cannot take is lost."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = SignalExitCode.PIPE_CLOSED
        _discard(1)
    except OSError as error:
        show_error(f"stdout: {error.strerror}", _HINT)
        code = ExitCode.CONFIGURATION
        _discard(1)
    try:
        sys.stderr.flush()
    except OSError:
        _discard(2)
    return code


def _discard(descriptor: int) -> None:
    """Let the buffer of a stream that takes nothing more go nowhere: Python flushes it at the end, and complains."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def show_os_error(error: OSError) -> bool:
    """Print an error about a file, or about output that cannot be written. Return False for any other: a bug."""
    if error.filename is None and error.errno not in _NOT_WRITTEN:
        return False
    show_error(f"{error.filename or 'the output'}: {error.strerror}", _HINT)
    return True
