"""What a check of `dpiqa doctor` says."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"  #: works, but not as well as it could, or not yet
    FAIL = "fail"  #: something will not work


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    name: str
    level: Level
    message: str
    hint: str = ""


def ok(name: str, message: str) -> Finding:
    """Nothing to do."""
    return Finding(name, Level.OK, message)


def warn(name: str, message: str, hint: str) -> Finding:
    """Worth knowing."""
    return Finding(name, Level.WARN, message, hint)


def fail(name: str, message: str, hint: str) -> Finding:
    """Must be mended."""
    return Finding(name, Level.FAIL, message, hint)
