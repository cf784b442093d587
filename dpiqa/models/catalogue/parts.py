"""Pulled parts: folders of files that models are made with, as their publishers lay them out."""

from pathlib import Path

from dpiqa.errors import CheckpointError, NotFound
from dpiqa.models.cards import sha256_of
from dpiqa.models.catalogue.entries import catalogue, find_entry
from dpiqa.models.catalogue.record import check_known, read_record
from dpiqa.models.weights_file import find_damage

PARTS = "parts"  #: folder within the models folder


def part_folder(name: str, models_dir: Path) -> Path:
    """Return the folder of a pulled part, complete and checked; `from_pretrained` of the libraries takes it.

    Raises `NotFound` if it was not pulled, `CheckpointError` if a file is missing or not the one that was.
    """
    folder = models_dir / PARTS / name
    if not folder.is_dir():
        raise NotFound(f"{name} is not here", hint=f"dpiqa models pull {name}")
    verify_part(name, models_dir)
    return folder


def pulled_parts(models_dir: Path) -> list[str]:
    """Return the names of all parts that are here."""
    return [name for name, entry in catalogue().items() if entry.kind is None and (models_dir / PARTS / name).is_dir()]


def verify_part(name: str, models_dir: Path) -> None:
    """Raise `CheckpointError` unless every file of the part is here and is the one that was pulled."""
    record = read_record(models_dir)
    for file in find_entry(name).files:
        path = models_dir / PARTS / name / file
        if not path.is_file() or f"{name}/{file}" not in record.files:
            raise CheckpointError(f"{path} is missing or was never checked", hint=f"dpiqa models pull {name}")
        check_known(f"{name}/{file}", sha256_of(path), record, models_dir)


def check_readable(path: Path) -> None:
    """Raise `CheckpointError` for a safetensors file that is cut off or none at all."""
    damage = find_damage(path) if path.suffix == ".safetensors" else ""
    if damage or not path.stat().st_size:
        raise CheckpointError(f"{path}: {damage or 'it is empty'}", hint="pull it again")
