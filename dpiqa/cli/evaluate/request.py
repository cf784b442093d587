"""What every form of `dpiqa evaluate` is asked, and what they share: images, a scorer's answers, the card."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpiqa.cli.support import console

if TYPE_CHECKING:
    from dpiqa.datasets.spec import LabelledImage
    from dpiqa.evaluation.measurement import Score
    from dpiqa.evaluation.scored_images import ScoredImages
    from dpiqa.models.base import ModelCard, Scorer
    from dpiqa.models.choice import ModelChoice
    from dpiqa.settings import Settings


class Protocol(StrEnum):
    """How the images that count are chosen."""

    OFFICIAL = "official"  #: one split: the set's own where it has one, else a seeded one
    FIVE_SPLITS = "five-splits"  #: the median over the test sides of five random 80/20 splits


@dataclass(frozen=True, kw_only=True)
class Request:
    """The options of one command."""

    settings: "Settings"
    command: str  #: that a card repeats
    requirement: str | None
    sets: Sequence[tuple[str, Path]]  #: name and place of each data set
    called: str | None  #: what the one set is called instead of its name
    split: str
    protocol: Protocol
    seed: int
    output: Path | None  #: folder of the report
    cards: Path | None  #: folder whose cards get the figures
    as_json: bool

    @property
    def data(self) -> str:
        """Return what a table calls the images of the one data set: `biq2021 val`."""
        return f"{self.called or self.sets[0][0]} {self.split}"


def images_of(request: Request) -> "list[LabelledImage]":
    """Return the images that count of the one data set. Raises what the readers do, and for a split without images."""
    from dpiqa.datasets import load_dataset
    from dpiqa.evaluation.measurement import images_of_split

    ((name, place),) = request.sets
    return images_of_split(load_dataset(name, place, split_seed=request.seed).images, request.split, name)


def scoring(settings: "Settings", scorer: "Scorer") -> "Score":
    """Return a function that scores images as production does, with a progress bar."""
    from dpiqa.cli.support.progress import counting
    from dpiqa.evaluation.scored_images import score_labelled
    from dpiqa.imaging.decode import Limits
    from dpiqa.pipeline.scorers import batch_size

    def score(images: "Sequence[LabelledImage]") -> "ScoredImages":
        with counting(f"scoring with {scorer.card.name}", len(images)) as advance:
            return score_labelled(
                scorer,
                images,
                batch=batch_size(scorer.card, settings),
                processes=settings.decode_processes,
                limits=Limits.from_settings(settings),
                advance=advance,
            )

    return score


def scored_by(
    request: Request, choices: "Mapping[str, ModelChoice]", images: "Sequence[LabelledImage]"
) -> "dict[str, ScoredImages]":
    """Score the images with one model after the other; only one is in memory at a time."""
    from dpiqa.pipeline.scorers import load_for_settings

    settings = request.settings
    return {name: scoring(settings, load_for_settings(choice, settings))(images) for name, choice in choices.items()}


def check_cards(request: Request, cards: "Sequence[ModelCard]") -> None:
    """Raise before anything is measured if the figures could not be written down (`dpiqa.models.folder`)."""
    from dpiqa.models.folder import check_card

    if request.cards:
        for card in cards:
            check_card(card, request.cards)


def write_cards(
    request: Request,
    cards: "Sequence[ModelCard]",
    sections: Mapping[str, Mapping[str, Any]],
    *,
    measured: "Sequence[ModelCard]",
) -> None:
    """Merge the sections, stamped, into the `cards` where --card asks for it. `measured`: whose figures."""
    from dpiqa.models.folder import add_sections
    from dpiqa.provenance import stamp

    if not request.cards:
        return
    origin = stamp(request.command, {card.name: card.sha256 for card in measured})
    stamped = {name: origin | dict(section) for name, section in sections.items()}
    for card in cards:
        add_sections(card, request.cards, stamped)
        console.note(f"written into the card of {card.name} in {request.cards}: {'; '.join(sections)}")
