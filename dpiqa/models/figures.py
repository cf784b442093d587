"""What a card says was measured: sections by name, each with the digests of the weights it was measured with.

Free of torch. Sections that commands write carry `dpiqa.provenance.stamp`; older, hand-written ones say nothing of
weights, and nothing is concluded about them.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dpiqa.errors import InvalidRequest
from dpiqa.models.base import ModelCard
from dpiqa.models.cards import read_card
from dpiqa.models.folder import require_card, update_card
from dpiqa.provenance import WEIGHTS

#: What a section keeps when it is measured again: it says how the weights came about, which no measurement can tell.
_CHOSEN = "chosen_on"


def stale_sections(card: ModelCard, cards: Iterable[ModelCard]) -> list[str]:
    """Name the card's sections that were measured with other weights than those of today, its own or another model's.

    `cards`: all that are here. A model that is not here any more makes no section stale.
    """
    today = {one.name: one.sha256 for one in (*cards, card)}
    return [name for name, section in card.figures.items() if _differs(section, today)]


def with_sections(card: ModelCard, sections: Mapping[str, Mapping[str, Any]]) -> ModelCard:
    """Return the card with these sections, in place of earlier ones of the same names; the others stay. Pure."""
    merged = dict(card.figures)
    for name, section in sections.items():
        merged[name] = _kept(card, merged.get(name)) | dict(section)
    return card.model_copy(update={"figures": merged})


def check_card(card: ModelCard, folder: Path) -> None:
    """Raise unless `folder` holds a writable card of the very model that `card` describes: asked before measuring.

    Raises `InvalidRequest` where there is no such card or one of other weights, `ConfigurationError` where the folder
    cannot be written, `CheckpointError` where the card cannot be read.
    """
    require_card(card.name, folder)
    if read_card(folder / f"{card.name}.json").sha256 != card.sha256:
        raise InvalidRequest(f"the card in {folder} is of other weights", hint="name the folder of the right one")


def add_sections(card: ModelCard, folder: Path, sections: Mapping[str, Mapping[str, Any]]) -> ModelCard:
    """Merge sections into the card of that name in `folder`, durably; returns it. Raises as `check_card` does."""
    return update_card(card.name, folder, lambda there: with_sections(there, sections), sha256=card.sha256)


def _differs(section: Any, today: Mapping[str, str]) -> bool:
    weights = section.get(WEIGHTS) if isinstance(section, Mapping) else None
    return isinstance(weights, Mapping) and any(today.get(name, sha) != sha for name, sha in weights.items())


def _kept(card: ModelCard, section: Any) -> dict[str, Any]:
    """Return what stays of an earlier section: a remark on how these very weights were chosen."""
    if not isinstance(section, Mapping) or _CHOSEN not in section or _differs(section, {card.name: card.sha256}):
        return {}
    return {_CHOSEN: section[_CHOSEN]}
