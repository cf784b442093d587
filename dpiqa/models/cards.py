"""Models by name: the built-in, the bundled and the user's, and the sections of their cards. Free of torch.

A model is a card `NAME.json` with its weights beside it. A card's figures are sections by name, each with the digests
of the weights it was measured with. Sections that commands write carry `dpiqa.provenance.stamp`; older, hand-written
ones do not name weights, and nothing is concluded about them.
"""

import hashlib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dpiqa.errors import CheckpointError, ConfigurationError, NotFound
from dpiqa.models.base import ModelCard
from dpiqa.models.brightness import BUILT_IN
from dpiqa.models.choice import plain_name
from dpiqa.models.plugins import find_plugin_card, plugin_cards
from dpiqa.models.weights_file import find_damage
from dpiqa.provenance import WEIGHTS
from dpiqa.scorer_id import ScorerId
from dpiqa.settings import default_models_dir
from dpiqa.text import first_field_error

BUNDLED = Path(__file__).parent / "bundled"
#: Entry that a section keeps when it is measured again: how the weights came about, which no measurement can tell.
_CHOSEN = "chosen_on"
#: Names of weights that others published; `catalogue.entries`, which imports this module, reads it whole.
_PUBLISHED = Path(__file__).parent / "catalogue" / "published.toml"


def list_cards(models_dir: Path | None = None) -> list[ModelCard]:
    """Return the cards of all models, by name; those of plug-ins that are broken are left out.

    Raises `CheckpointError` on a card that cannot be read, `ConfigurationError` if two models share a name or
    `models_dir` is not a folder.
    """
    cards = _cards(models_dir)
    cards = {card.name: card for card in plugin_cards()} | cards
    return [card for _, card in sorted(cards.items())]


def find_card(name: str, models_dir: Path | None = None) -> ModelCard:
    """Return the card called `name`; `PLUGIN:MODEL` is a plug-in's `PLUGIN.MODEL`.

    Raises `NotFound` naming all models, and `ConfigurationError` for a model of a plug-in that is broken.
    """
    cards = _cards(models_dir)
    name = plain_name(name)
    if name not in cards and (card := find_plugin_card(name)) is not None:
        return card
    if name not in cards:
        published = tomllib.loads(_PUBLISHED.read_text("utf-8"))["model"]
        if name in published:
            raise NotFound(f"{name} is not installed", hint=f"`dpiqa models pull {name}` fetches it")
        where = "" if models_dir else "; to find your own models, name their folder"
        raise NotFound(f"there is no model called {name!r}", hint=f"known models: {', '.join(sorted(cards))}{where}")
    return cards[name]


def find_scorer_card(scorer_id: str, models_dir: Path | None = None) -> ModelCard | None:
    """Return the card of the model that has the weights of a scorer, whatever its name was when it scored.

    None where no model has them, or where `scorer_id` is not one. Raises as `list_cards`.
    """
    try:
        scorer = ScorerId.parse(scorer_id)
    except ValueError:
        return None
    cards = [card for card in list_cards(models_dir) if ScorerId.parse(card.scorer_id).weights == scorer.weights]
    return next((card for card in cards if card.name == scorer.model), cards[0] if cards else None)


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
    """Raise `CheckpointError` unless the weights exist and are those the card was made for."""
    path = weights_path(card, models_dir)
    if path is None:
        return
    sha256 = sha256_of(path)
    if sha256 != card.sha256:
        damage = find_damage(path) if path.suffix == ".safetensors" else ""
        reasons = filter(None, (damage, f"expected sha256 {card.sha256}, found {sha256}"))
        raise CheckpointError(
            f"{path} is not what its card says: {'; '.join(reasons)}",
            hint="the file is damaged or was replaced: restore it, or make a card for the new weights",
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
        raise CheckpointError(
            f"{path}: weights: {card.weights!r} is not a file name", hint="put the file beside its card"
        )
    return card


def _cards(models_dir: Path | None) -> dict[str, ModelCard]:
    cards = dict(BUILT_IN)
    for path in (path for folder in _folders(models_dir) for path in sorted(folder.glob("*.json"))):
        card = read_card(path)
        if card.name in cards:
            raise ConfigurationError(f"two models are called {card.name}; one is {path}", hint="rename one of them")
        cards[card.name] = card
    return cards


def _folders(models_dir: Path | None) -> list[Path]:
    if models_dir is None or models_dir.resolve() == BUNDLED:
        return [BUNDLED]
    if not models_dir.is_dir():
        if models_dir == default_models_dir():
            return [BUNDLED]  # nothing was imported yet
        raise ConfigurationError(
            f"the models folder {models_dir} does not exist", hint="create the folder, or unset DPIQA_MODELS_DIR"
        )
    return [BUNDLED, models_dir]


def stale_sections(card: ModelCard, cards: Iterable[ModelCard]) -> list[str]:
    """Return the names of the card's sections that were measured with other weights than the models have today.

    `cards`: of all models. A model that does not exist any more makes no section stale.
    """
    digests = {model.name: model.sha256 for model in (*cards, card)}
    return [name for name, section in card.figures.items() if _differs(section, digests)]


def with_sections(card: ModelCard, sections: Mapping[str, Mapping[str, Any]]) -> ModelCard:
    """Return the card with these sections instead of earlier ones of the same names; the others stay. Pure."""
    figures = dict(card.figures)
    for name, section in sections.items():
        figures[name] = _kept_entries(card, figures.get(name)) | dict(section)
    return card.model_copy(update={"figures": figures})


def _differs(section: Any, digests: Mapping[str, str]) -> bool:
    weights = section.get(WEIGHTS) if isinstance(section, Mapping) else None
    return isinstance(weights, Mapping) and any(digests.get(name, sha) != sha for name, sha in weights.items())


def _kept_entries(card: ModelCard, section: Any) -> dict[str, Any]:
    """Return what stays of an earlier section: a remark on how these very weights were chosen."""
    if not isinstance(section, Mapping) or _CHOSEN not in section or _differs(section, {card.name: card.sha256}):
        return {}
    return {_CHOSEN: section[_CHOSEN]}
