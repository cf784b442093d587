"""Changing a models folder: one process at a time, and never half. Free of torch.

A model counts from the moment its card is there. So cards come last and go first, and everything is made in a hidden
folder beside, which a killed process may leave behind and the next change clears away.
"""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import mkdtemp

from dpiqa.errors import ConfigurationError, InvalidRequest
from dpiqa.files import locked_folder, replace_file, replace_text
from dpiqa.models.base import ModelCard
from dpiqa.models.brightness import BUILT_IN
from dpiqa.models.cards import BUNDLED, find_card, list_cards, read_card

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_STAGING = ".unfinished-"
_LOCK = ".lock"


@contextmanager
def changing(models_dir: Path) -> Iterator[None]:
    """Hold the folder's lock, making the folder first if need be; waits for another process that holds it.

    Raises `ConfigurationError` if the folder cannot be written.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(locked_folder(models_dir, name=_LOCK))
        except OSError as error:
            raise unwritable(models_dir, error) from error
        for left in models_dir.glob(f"{_STAGING}*"):
            shutil.rmtree(left, ignore_errors=True)
        yield


@contextmanager
def staging(models_dir: Path) -> Iterator[Path]:
    """Yield an empty folder on the same disk, within `changing`; it is gone afterwards, whatever happened."""
    try:
        folder = Path(mkdtemp(prefix=_STAGING, dir=models_dir))
    except OSError as error:
        raise unwritable(models_dir, error) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_new(name: str, models_dir: Path) -> None:
    """Raise `InvalidRequest` unless a model may be called so and none is."""
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"{name!r} is no name for a model",
            hint="use up to 64 lower-case letters, digits, dots, hyphens and underscores",
        )
    if name in {card.name for card in list_cards(models_dir if models_dir.is_dir() else None)}:
        raise InvalidRequest(
            f"a model is called {name} already", hint=f"choose another name, or `dpiqa models remove {name}` first"
        )


def publish(staged: Path, card: ModelCard, models_dir: Path) -> None:
    """Move weights and card from a staging folder into place, durably. Raises `ConfigurationError`."""
    assert card.weights is not None  # noqa: S101 - only the built-in model has none
    weights = staged / card.weights
    try:
        replace_file(models_dir / card.weights, weights.replace)
        replace_text(models_dir / f"{card.name}.json", card.model_dump_json(indent=1) + "\n")
    except OSError as error:
        raise unwritable(models_dir, error) from error


def replace_card(card: ModelCard, folder: Path) -> None:
    """Put a changed card in place of the one that is there, whole or not at all, within `changing`.

    Raises `ConfigurationError` if it cannot be written.
    """
    try:
        replace_text(folder / f"{card.name}.json", card.model_dump_json(indent=1) + "\n")
    except OSError as error:
        raise unwritable(folder, error) from error


def require_card(name: str, folder: Path) -> None:
    """Raise unless the card of this model lies in the folder and may be changed there: asked before long work.

    Raises `InvalidRequest` where it is not, `ConfigurationError` if the folder cannot be written.
    """
    if (folder / f"{name}.json").is_file():
        with changing(folder):
            return
    if (BUNDLED / f"{name}.json").is_file():
        raise InvalidRequest(f"the card of {name} comes with dpiqa", hint=f"to change it there, say --card {BUNDLED}")
    raise InvalidRequest(f"the card of {name} is not in {folder}", hint="name the folder of the card with --card")


def update_card(name: str, folder: Path, change: Callable[[ModelCard], ModelCard], *, sha256: str) -> ModelCard:
    """Put a changed card in the place of the card in `folder` and return it; its weights stay.

    Raises as `require_card`, and `InvalidRequest` for a card of other weights than `sha256`.
    """
    require_card(name, folder)
    with changing(folder):
        there = read_card(folder / f"{name}.json")
        if there.sha256 != sha256:
            raise InvalidRequest(f"the card in {folder} is of other weights", hint="name the folder of the right one")
        card = change(there)
        replace_card(card, folder)
    return card


def remove_model(name: str, models_dir: Path) -> ModelCard:
    """Delete a model of the user's: card first, then weights. Returns what its card said.

    Raises `NotFound`, `InvalidRequest` for a model that comes with dpiqa, `ConfigurationError` if it cannot be deleted.
    """
    card = find_card(name, models_dir if models_dir.is_dir() else None)
    if name in BUILT_IN or (BUNDLED / f"{name}.json").is_file():
        raise InvalidRequest(f"{name} comes with dpiqa and cannot be removed", hint="just do not name it in a profile")
    with changing(models_dir):
        try:
            (models_dir / f"{name}.json").unlink(missing_ok=True)
            if card.weights is not None:
                (models_dir / card.weights).unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(models_dir, error) from error
    return card


def unwritable(folder: Path, error: OSError) -> ConfigurationError:
    """Say why a folder could not be changed, in our words."""
    return ConfigurationError(
        f"{folder} cannot be written: {error.strerror or error}",
        hint="make room or give yourself the right to write there, or set DPIQA_MODELS_DIR to another folder",
    )
