"""Exit codes that scripts may rely on. Documented in `dpiqa --help` and `docs/cli.md`."""

from enum import IntEnum

from dpiqa.errors import (
    ConfigurationError,
    DatabaseMisconfigured,
    DpiqaError,
    InvalidRequest,
    NotFound,
    ObjectGone,
    RowRefused,
    Unavailable,
)
from dpiqa.types import LOOP_STUCK


class ExitCode(IntEnum):
    """Exit codes of the command line, and of processes that refuse to start."""

    OK = 0
    INCOMPLETE = 1  #: some images were not scored, or a check failed
    USAGE = 2  #: the command line or the request is wrong
    UNREACHABLE = 3  #: Postgres, the broker or S3 does not answer; the same command may work later
    NOT_FOUND = 4  #: no such job, image, file, model or profile
    JOB_FAILED = 5  #: the job that was followed failed
    JOB_CANCELLED = 6  #: the job that was followed was cancelled
    CONFIGURATION = 78  #: a setting, checkpoint or bucket is missing or wrong (`EX_CONFIG`)


class WorkerExitCode(IntEnum):
    """Exit codes of a process that must be started again: only a new one can go on."""

    DEVICE_BROKEN = 70  #: the device's context is lost
    DEVICE_HANGS = 71  #: a batch took too long
    LOOP_STUCK = LOOP_STUCK  #: a loop of the process did not come round; also of the listener and the API


class SignalExitCode(IntEnum):
    """Exit codes of a command that a signal ended, as shells report them."""

    INTERRUPTED = 130  #: Ctrl-C
    PIPE_CLOSED = 141  #: the reader of its stdout went away


MEANINGS: dict[ExitCode, str] = {
    ExitCode.OK: "done",
    ExitCode.INCOMPLETE: "some images were not scored, or a check failed",
    ExitCode.USAGE: "wrong usage or invalid request",
    ExitCode.UNREACHABLE: "Postgres, the broker or S3 is unreachable",
    ExitCode.NOT_FOUND: "not found",
    ExitCode.JOB_FAILED: "the job failed",
    ExitCode.JOB_CANCELLED: "the job was cancelled",
    ExitCode.CONFIGURATION: "a setting, checkpoint or bucket is missing or wrong",
}

SIGNAL_MEANINGS: dict[SignalExitCode, str] = {
    SignalExitCode.INTERRUPTED: "Ctrl-C",
    SignalExitCode.PIPE_CLOSED: "the reader of its stdout went away",
}

_CODE_OF_ERROR: tuple[tuple[type[DpiqaError], ExitCode], ...] = (
    (DatabaseMisconfigured, ExitCode.CONFIGURATION),
    (Unavailable, ExitCode.UNREACHABLE),
    (RowRefused, ExitCode.UNREACHABLE),
    (NotFound, ExitCode.NOT_FOUND),
    (ObjectGone, ExitCode.NOT_FOUND),
    (InvalidRequest, ExitCode.USAGE),
    (ConfigurationError, ExitCode.CONFIGURATION),
)


def exit_code(error: DpiqaError) -> ExitCode:
    """Return the code of a command that ended with this error."""
    return next((code for error_type, code in _CODE_OF_ERROR if isinstance(error, error_type)), ExitCode.INCOMPLETE)


def as_help() -> str:
    """Return all codes as one line for `--help`."""
    meanings = [*((code.value, meaning) for code, meaning in MEANINGS.items()), *SIGNAL_MEANINGS.items()]
    return "Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in meanings) + "."
