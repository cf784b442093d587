"""Finding models: the built-in, the bundled and the user's. Free of torch.

A model is a card `NAME.json` with its weights beside it.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from dpiqa.errors import CheckpointError, ConfigurationError, NotFound
from dpiqa.models.base import ModelCard
from dpiqa.models.brightness import BUILT_IN
from dpiqa.models.weights_file import find_damage
from dpiqa.settings import default_models_dir
from dpiqa.text import first_field_error

BUNDLED = Path(__file__).parent / "bundled"


def list_cards(models_dir: Path | None = None) -> list[ModelCard]:
    """Return the card of every model there is, by name.

    Raises `CheckpointError` on a card that cannot be read, `ConfigurationError` if two models share a name or
    `models_dir` is not a folder.
    """
    return [card for _, card in sorted(_found(models_dir).items())]


def find_card(name: str, models_dir: Path | None = None) -> ModelCard:
    """Return the card called `name`. Raises `NotFound` naming those there are."""
    cards = _found(models_dir)
    if name not in cards:
        where = "" if models_dir else "; your own are found with a models folder set"
        raise NotFound(f"no model is called {name!r}", hint=f"known models: {', '.join(sorted(cards))}{where}")
    return cards[name]


def weights_path(card: ModelCard, models_dir: Path | None = None) -> Path | None:
    """Find the card's weights; None for a built-in model without any. Raises `CheckpointError` if they are missing."""
    if card.weights is None:
        return None
    folders = [folder for folder in _folders(models_dir) if (folder / f"{card.name}.json").is_file()]
    for folder in folders:
        if (folder / card.weights).is_file():
            return folder / card.weights
    raise CheckpointError(
        f"the weights {card.weights} of {card.name} are not in {', '.join(map(str, folders)) or 'any models folder'}",
        hint="put the file beside its card, or install the model again",
    )


def verify(card: ModelCard, models_dir: Path | None = None) -> None:
    """Raise `CheckpointError` unless the weights are there and are those the card was made for."""
    path = weights_path(card, models_dir)
    if path is None:
        return
    found = sha256_of(path)
    if found != card.sha256:
        damage = find_damage(path) if path.suffix == ".safetensors" else ""
        reasons = filter(None, (damage, f"expected sha256 {card.sha256}, found {found}"))
        raise CheckpointError(
            f"{path} is not what its card says: {'; '.join(reasons)}",
            hint="the file is damaged or was exchanged: restore it, or make a card for the new weights",
        )


def sha256_of(path: Path) -> str:
    """Return the hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_card(path: Path) -> ModelCard:
    """Read one card. Raises `CheckpointError` naming the file and the first thing wrong with it."""
    try:
        card = ModelCard.model_validate_json(path.read_bytes())
    except ValidationError as error:
        wrong = first_field_error(error, "the file")
        raise CheckpointError(f"{path}: {wrong}", hint="correct or remove this model card") from error
    if card.name != path.stem:
        raise CheckpointError(f"{path} names the model {card.name!r}", hint=f"call the file {card.name}.json")
    if card.weights is not None and card.weights != Path(card.weights).name:
        raise CheckpointError(f"{path}: weights: {card.weights!r} is no file name", hint="put the file beside its card")
    return card


def _found(models_dir: Path | None) -> dict[str, ModelCard]:
    cards = dict(BUILT_IN)
    for path in _card_files(models_dir):
        card = read_card(path)
        if card.name in cards:
            raise ConfigurationError(f"two models are called {card.name}; one is {path}", hint="rename one of them")
        cards[card.name] = card
    return cards


def _card_files(models_dir: Path | None) -> Iterator[Path]:
    for folder in _folders(models_dir):
        yield from sorted(folder.glob("*.json"))


def _folders(models_dir: Path | None) -> list[Path]:
    if models_dir is None or models_dir.resolve() == BUNDLED:
        return [BUNDLED]
    if not models_dir.is_dir():
        if models_dir == default_models_dir():
            return [BUNDLED]  # nothing was imported yet
        raise ConfigurationError(f"the models folder {models_dir} does not exist", hint="create it or unset it")
    return [BUNDLED, models_dir]
