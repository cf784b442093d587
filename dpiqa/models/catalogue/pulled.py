"""Pulled files: the record of their digests and of accepted terms, and the folders of pulled parts.

The record is `downloads.lock` in the models folder. A file is recorded when it is used for the first time; from then
on, on this machine and on every other that the folder is copied to, the same name means the same bytes. The record's
name does not end in `.json`: files that do are cards.
"""

from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dpiqa.errors import CheckpointError, ConfigurationError, NotFound
from dpiqa.files import replace_text
from dpiqa.models.base import ModelCard
from dpiqa.models.cards import sha256_of
from dpiqa.models.catalogue.entries import catalogue, find_entry
from dpiqa.models.folder import changing, unwritable
from dpiqa.models.plugins import licence_to_accept
from dpiqa.models.weights_file import find_damage
from dpiqa.text import reason_of

RECORD_FILE = "downloads.lock"
PARTS = "parts"  #: folder within the models folder


class PulledFile(BaseModel):
    """One file as it was when it was first used."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str
    bytes: int
    source: str
    first_used: datetime


class PullRecord(BaseModel):
    """Content of the record."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    files: dict[str, PulledFile] = Field(default_factory=dict)  #: `ENTRY/PATH` -> file
    accepted: dict[str, datetime] = Field(default_factory=dict)  #: licence -> when


def read_record(models_dir: Path) -> PullRecord:
    """Read the record; an empty one if there is none. Raises `ConfigurationError` if it cannot be read."""
    path = models_dir / RECORD_FILE
    try:
        return PullRecord.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return PullRecord()
    except (OSError, ValidationError) as error:
        raise ConfigurationError(f"{path} cannot be read: {reason_of(error)}", hint="restore it from a copy") from error


def accept_terms(licence: str, models_dir: Path) -> None:
    """Record that the user accepted these terms."""
    with changing(models_dir):
        record = read_record(models_dir)
        accepted = record.accepted | {licence: datetime.now(UTC)}
        _write(record.model_copy(update={"accepted": accepted}), models_dir)


def require_accepted(card: ModelCard, models_dir: Path, accepted: Collection[str]) -> None:
    """Raise `ConfigurationError` for a plug-in's model whose licence has to be accepted, and was not.

    `accepted`: licences that count as accepted beside those of the record.
    """
    licence = licence_to_accept(card)
    if licence is None or licence in accepted or licence in read_record(models_dir).accepted:
        return
    raise ConfigurationError(
        f"{card.name} is under the licence {licence}, which was not accepted",
        hint=f"`dpiqa models pull {card.name}` shows it and asks; for workers set DPIQA_ACCEPTED_LICENCES={licence}",
    )


def record_file(name: str, sha256: str, size: int, source: str, models_dir: Path) -> None:
    """Record the file `name`, unless it is recorded already."""
    with changing(models_dir):
        record = read_record(models_dir)
        file = PulledFile(sha256=sha256, bytes=size, source=source, first_used=datetime.now(UTC))
        _write(record.model_copy(update={"files": {name: file} | record.files}), models_dir)


def check_recorded(name: str, sha256: str, record: PullRecord, models_dir: Path) -> None:
    """Raise `CheckpointError` if the file was used before and was another one."""
    file = record.files.get(name)
    if file is not None and file.sha256 != sha256:
        raise CheckpointError(
            f"{name} is not the file that was pulled on {file.first_used:%Y-%m-%d} from {file.source}: "
            f"expected sha256 {file.sha256}, found {sha256}",
            hint=f"pull it from another source, or, if its publisher says that it changed, remove its entry from "
            f"{models_dir / RECORD_FILE}",
        )


def check_readable(path: Path) -> None:
    """Raise `CheckpointError` for a file that is empty, or a safetensors file that is damaged."""
    damage = find_damage(path) if path.suffix == ".safetensors" else ""
    if damage or not path.stat().st_size:
        raise CheckpointError(f"{path}: {damage or 'it is empty'}", hint="pull it again")


def part_folder(name: str, models_dir: Path) -> Path:
    """Return the folder of a pulled part, complete and checked; `from_pretrained` of the libraries takes it.

    Raises `NotFound` if it was not pulled, `CheckpointError` if a file is missing or is not the one that was pulled.
    """
    folder = models_dir / PARTS / name
    if not folder.is_dir():
        raise NotFound(f"{name} was not pulled", hint=f"dpiqa models pull {name}")
    verify_part(name, models_dir)
    return folder


def pulled_parts(models_dir: Path) -> list[str]:
    """Return the names of all parts that were pulled."""
    return [name for name, entry in catalogue().items() if entry.kind is None and (models_dir / PARTS / name).is_dir()]


def verify_part(name: str, models_dir: Path) -> None:
    """Raise `CheckpointError` unless every file of the part exists and is the one that was pulled."""
    record = read_record(models_dir)
    for file in find_entry(name).files:
        path = models_dir / PARTS / name / file
        if not path.is_file() or f"{name}/{file}" not in record.files:
            raise CheckpointError(f"{path} is missing or was never checked", hint=f"dpiqa models pull {name}")
        check_recorded(f"{name}/{file}", sha256_of(path), record, models_dir)


def _write(record: PullRecord, models_dir: Path) -> None:
    """Replace the record, within `changing`."""
    try:
        replace_text(models_dir / RECORD_FILE, record.model_dump_json(indent=1) + "\n")
    except OSError as error:
        raise unwritable(models_dir, error) from error
