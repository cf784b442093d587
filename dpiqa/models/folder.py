"""Changes of a models folder: one process at a time, and each is complete or not made. Free of torch.

A model exists from the moment its card does. So cards are written last and deleted first, and everything is made in a
hidden folder on the same disk, which a killed process may leave behind and the next change deletes.
"""

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from dpiqa.errors import ConfigurationError, InvalidRequest
from dpiqa.files import locked_folder, replace_file, replace_text
from dpiqa.models.base import ModelCard
from dpiqa.models.brightness import BUILT_IN
from dpiqa.models.cards import BUNDLED, find_card, list_cards, read_card, with_sections

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_STAGING = ".unfinished-"
_LOCK = ".lock"


@contextmanager
def changing(models_dir: Path) -> Iterator[None]:
    """Hold the folder's lock, and create the folder if it is missing; waits for another process that holds the lock.

    Raises `ConfigurationError` if the folder cannot be written.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(locked_folder(models_dir, name=_LOCK))
        except OSError as error:
            raise unwritable(models_dir, error) from error
        for unfinished in models_dir.glob(f"{_STAGING}*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        yield


@contextmanager
def staging(models_dir: Path) -> Iterator[Path]:
    """Yield an empty folder on the same disk, within `changing`; it is deleted afterwards, also after an error."""
    try:
        folder = Path(mkdtemp(prefix=_STAGING, dir=models_dir))
    except OSError as error:
        raise unwritable(models_dir, error) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_new(name: str, models_dir: Path) -> None:
    """Raise `InvalidRequest` unless `name` is valid and free."""
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"{name!r} is not a valid model name",
            hint="use up to 64 lower-case letters, digits, dots, hyphens and underscores",
        )
    check_free(name, models_dir)


def check_free(name: str, models_dir: Path) -> None:
    """Raise `InvalidRequest` if there is a model of this name: bundled, built in, or in the folder."""
    if name in {card.name for card in list_cards(models_dir if models_dir.is_dir() else None)}:
        raise InvalidRequest(
            f"there is already a model called {name}",
            hint=f"choose another name, or `dpiqa models remove {name}` first",
        )


def publish(card: ModelCard, folder: Path, models_dir: Path) -> None:
    """Copy a finished model from `folder` into a models folder, under its lock: weights first, then the card.

    Each file appears whole; a process that is killed in between leaves weights without a card, which do not count as a
    model. A model of this name is replaced: see `check_new`. Raises `ConfigurationError` if the folder is not writable.
    """
    with changing(models_dir):
        _place(card, models_dir, lambda target: shutil.copyfile(folder / str(card.weights), target))


def publish_staged(card: ModelCard, staged: Path, models_dir: Path) -> None:
    """Do as `publish` within `changing`, for a model that was made in `staging`: its weights are moved, not copied."""
    _place(card, models_dir, (staged / str(card.weights)).replace)


def write_card(card: ModelCard, folder: Path) -> None:
    """Write `NAME.json` with the card; an earlier one is replaced at once or not at all.

    Raises `ConfigurationError` if it cannot be written.
    """
    try:
        replace_text(folder / f"{card.name}.json", card.model_dump_json(indent=1) + "\n")
    except OSError as error:
        raise unwritable(folder, error) from error


def _place(card: ModelCard, models_dir: Path, write_weights: Callable[[Path], object]) -> None:
    assert card.weights is not None  # noqa: S101 - only the built-in model has none
    try:
        replace_file(models_dir / card.weights, write_weights)
    except OSError as error:
        raise unwritable(models_dir, error) from error
    write_card(card, models_dir)


def require_card(name: str, folder: Path) -> None:
    """Raise unless the model's card is in the folder and may be changed there: checked before long work.

    Raises `InvalidRequest` where it is not, `ConfigurationError` if the folder cannot be written.
    """
    if (folder / f"{name}.json").is_file():
        with changing(folder):
            return
    if (BUNDLED / f"{name}.json").is_file():
        raise InvalidRequest(f"the card of {name} comes with dpiqa", hint=f"to change it there, say --card {BUNDLED}")
    raise InvalidRequest(f"the card of {name} is not in {folder}", hint="name the folder of the card with --card")


def check_card(card: ModelCard, folder: Path) -> None:
    """Raise unless `folder` holds a writable card of the very model that `card` describes: checked before measuring.

    Raises as `require_card`, `InvalidRequest` for a card of other weights, `CheckpointError` for one that cannot be
    read.
    """
    require_card(card.name, folder)
    _read_card_of(card.name, card.sha256, folder)


def update_card(name: str, folder: Path, change: Callable[[ModelCard], ModelCard], *, sha256: str) -> ModelCard:
    """Replace the card in `folder` by what `change` makes of it, and return that; the weights stay.

    Raises as `require_card`, and `InvalidRequest` for a card of other weights than `sha256`.
    """
    require_card(name, folder)
    with changing(folder):
        card = change(_read_card_of(name, sha256, folder))
        write_card(card, folder)
    return card


def add_sections(card: ModelCard, folder: Path, sections: Mapping[str, Mapping[str, Any]]) -> ModelCard:
    """Merge sections into the card of that name in `folder` and return it. Raises as `check_card`."""
    return update_card(card.name, folder, lambda earlier: with_sections(earlier, sections), sha256=card.sha256)


def _read_card_of(name: str, sha256: str, folder: Path) -> ModelCard:
    card = read_card(folder / f"{name}.json")
    if card.sha256 != sha256:
        raise InvalidRequest(f"the card in {folder} is of other weights", hint="name the folder of this model's card")
    return card


def check_removable(name: str) -> None:
    """Raise `InvalidRequest` for a model that comes with dpiqa."""
    if name in BUILT_IN or (BUNDLED / f"{name}.json").is_file():
        raise InvalidRequest(
            f"{name} comes with dpiqa and cannot be removed", hint="remove it from your profiles instead"
        )


def remove_model(name: str, models_dir: Path) -> ModelCard:
    """Delete a model of the user's: card first, then weights. Returns its card.

    Raises `NotFound`, `InvalidRequest` for a model that comes with dpiqa, `ConfigurationError` if it cannot be deleted.
    """
    card = find_card(name, models_dir if models_dir.is_dir() else None)
    check_removable(name)
    with changing(models_dir):
        try:
            (models_dir / f"{name}.json").unlink(missing_ok=True)
            if card.weights is not None:
                (models_dir / card.weights).unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(models_dir, error) from error
    return card


def unwritable(folder: Path, error: OSError) -> ConfigurationError:
    """Return the error for a folder that could not be changed."""
    return ConfigurationError(
        f"{folder} cannot be written: {error.strerror or error}",
        hint="check the folder's permissions and the free space, or set DPIQA_MODELS_DIR to another folder",
    )
