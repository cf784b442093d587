"""`downloads.lock` in the models folder: what was pulled, byte for byte, and which terms were accepted.

A file is recorded when it is used for the first time; ever after, on this and on every machine that the folder is
copied to, the same name means the same bytes. The name has no `.json` ending: those are cards.
"""

from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dpiqa.errors import CheckpointError, ConfigurationError
from dpiqa.files import replace_text
from dpiqa.models.folder import changing, unwritable

FILE = "downloads.lock"


class Known(BaseModel):
    """One file as it was when it was first used."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str
    bytes: int
    source: str
    first_used: datetime


class Record(BaseModel):
    """All that the file says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    files: dict[str, Known] = Field(default_factory=dict)  #: `ENTRY/PATH` -> file
    accepted: dict[str, datetime] = Field(default_factory=dict)  #: licence -> when


def read_record(models_dir: Path) -> Record:
    """Read the record; an empty one where there is none. Raises `ConfigurationError` if it cannot be read."""
    path = models_dir / FILE
    try:
        return Record.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Record()
    except (OSError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigurationError(f"{path} cannot be read: {reason}", hint="restore it from a copy") from error


def accept(licence: str, models_dir: Path) -> None:
    """Note that the user accepted these terms."""
    with changing(models_dir):
        record = read_record(models_dir)
        _write(record.model_copy(update={"accepted": record.accepted | {licence: _now()}}), models_dir)


def remember(name: str, sha256: str, size: int, source: str, models_dir: Path) -> None:
    """Note what the file `name` is, if that was not known yet."""
    with changing(models_dir):
        record = read_record(models_dir)
        known = Known(sha256=sha256, bytes=size, source=source, first_used=_now())
        _write(record.model_copy(update={"files": {name: known} | record.files}), models_dir)


def check_known(name: str, sha256: str, record: Record, models_dir: Path) -> None:
    """Raise `CheckpointError` if the file was used before and was another one."""
    known = record.files.get(name)
    if known is not None and known.sha256 != sha256:
        raise CheckpointError(
            f"{name} is not the file that was pulled on {known.first_used:%Y-%m-%d} from {known.source}: "
            f"expected sha256 {known.sha256}, found {sha256}",
            hint=f"pull it from another place, or, if its publisher says it changed, take its entry out of "
            f"{models_dir / FILE}",
        )


def _write(record: Record, models_dir: Path) -> None:
    """Replace the file at once. Called within `changing`."""
    try:
        replace_text(models_dir / FILE, record.model_dump_json(indent=1) + "\n")
    except OSError as error:
        raise unwritable(models_dir, error) from error


def _now() -> datetime:
    return datetime.now(UTC)
