"""Makes a requirement in this process. No transaction is open while images are read or a model runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from sqlalchemy import Connection, Engine

from dpiqa.errors import CheckpointError, InvalidRequest
from dpiqa.extras import required_for
from dpiqa.models.base import ModelCard, Scorer
from dpiqa.models.cards import find_card, verify, weights_path
from dpiqa.pipeline.preparer import Decoder
from dpiqa.requirement import Pair, Preparation, PreparedRequirement, RequirementRequest
from dpiqa.requirements.pair_images import PairImages, PairReader, read_images
from dpiqa.retries import retry_transaction
from dpiqa.settings import Settings
from dpiqa.storage.engine import transaction
from dpiqa.storage.requirements import (
    Requirement,
    add_requirement,
    lock_requirement,
    read_pairs,
    read_preparations,
    read_requirement,
    same_content,
    save_preparation,
)
from dpiqa.types import ModelKind, RequirementState

Answer = TypeVar("Answer")


class PromptModel(Protocol):
    """What is needed of `dpiqa.models.promptiqa.scorer.PromptIQAModel`. One thread at a time."""

    @property
    def card(self) -> ModelCard:
        """The checkpoint, without a requirement."""

    def features(self, pixels: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Pixels (N, H, W, 3) uint8 and scores (N,) in [0, 1] -> prompt features (N, D) float32, each pair's own."""

    def scorer(self, requirement: PreparedRequirement) -> Scorer:
        """Make the scorer by a requirement."""


def find_prompt_card(name: str, models_dir: Path | None) -> ModelCard:
    """Return the card of a PromptIQA model. Raises `NotFound`, and `InvalidRequest` for a model of another kind."""
    card = find_card(name, models_dir)
    if card.kind is not ModelKind.PROMPTIQA:
        raise InvalidRequest(
            f"{name} cannot score by a requirement: it is of kind {card.kind}",
            hint="name a model of kind promptiqa (`dpiqa models list`)",
        )
    return card


def load_prompt_model(name: str, *, device: str, models_dir: Path | None, threads: int | None) -> PromptModel:
    """Load a PromptIQA checkpoint, its weights verified.

    Raises `NotFound`, `InvalidRequest`, `CheckpointError`, and `ConfigurationError` where torch is not installed.
    """
    card = find_prompt_card(name, models_dir)
    verify(card, models_dir)
    weights = weights_path(card, models_dir)
    if weights is None:
        raise CheckpointError(f"the card of {name} names no weights", hint="import the checkpoint again")
    with required_for(card.name, "promptiqa"):
        from dpiqa.models.promptiqa.scorer import load_promptiqa  # noqa: PLC0415 - torch only when needed
    model: PromptModel = load_promptiqa(card, weights, device=device, threads=threads)
    return model


def load_by_settings(name: str, settings: Settings) -> PromptModel:
    """Load a PromptIQA model onto the settings' device. Raises as `load_prompt_model`."""
    return load_prompt_model(name, device=settings.device, models_dir=settings.models_dir, threads=settings.threads)


@dataclass(frozen=True, slots=True)
class Workshop:
    """What requirements are made with."""

    engine: Engine
    decoder: Decoder
    settings: Settings
    load: Callable[[str, Settings], PromptModel] = load_by_settings

    def read(self, wanted: RequirementRequest, reader: PairReader) -> tuple[PairImages, str]:
        """Return the pairs' images as the wanted model sees them, and its scorer id.

        Raises `InvalidRequest` naming images that cannot be used, or for a model of another kind; `NotFound`,
        `ConfigurationError`, `Unavailable`.
        """
        card = find_prompt_card(wanted.model, self.settings.models_dir)
        return read_images(wanted.pairs, reader, self.decoder, card.preprocessing, self.settings), card.scorer_id

    def make(
        self, wanted: RequirementRequest, images: PairImages, *, step: Callable[[], None] = lambda: None
    ) -> Preparation:
        """Load the model and have it check the pairs. Raises as `load` and `dpiqa.requirements.checks.check`."""
        model = self.load(wanted.model, self.settings)
        from dpiqa.requirements.checks import check  # noqa: PLC0415 - SciPy, which comes with the models' extra

        return check(wanted.pairs, images, model, force=wanted.force, step=step)

    def do(self, ask: Callable[[Connection], Answer]) -> Answer:
        """Run one transaction, again where Postgres asks for it. Raises `DatabaseUnavailable`."""

        def once() -> Answer:
            with transaction(self.engine) as c:
                return ask(c)

        return retry_transaction(once)


def create(
    shop: Workshop, wanted: RequirementRequest, reader: PairReader, *, step: Callable[[], None] = lambda: None
) -> Requirement:
    """Read and check the pairs and store them as the next version; or return the version that is identical.

    An identical version gets prompt features of the model as it is now, if it has none yet. Raises `InvalidRequest`
    for pairs that cannot be accepted, and as `Workshop.read`. Calls `step` twice per pair.
    """
    wanted.check()
    images, scorer_id = shop.read(wanted, reader)
    content = wanted.content_hash(images.digests)
    known = shop.do(lambda c: same_content(c, wanted.name, content))
    if known and is_prepared(shop, known, scorer_id):
        return known
    made = shop.make(wanted, images, step=step)

    def keep(c: Connection) -> Requirement:
        lock_requirement(c, wanted.name)
        kept = same_content(c, wanted.name, content) or add_requirement(c, wanted, digests=images.digests)
        save_preparation(c, kept, made)
        return kept

    return shop.do(keep)


def prepare_again(
    shop: Workshop,
    name_or_id: str,
    reader: PairReader,
    *,
    model: str | None = None,
    force: bool = False,
    step: Callable[[], None] = lambda: None,
) -> Requirement:
    """Give a stored version the prompt features that a checkpoint lacks: its own model's as it is now, or `model`'s.

    Raises `NotFound`, `InvalidRequest` for a version that is not ready, whose images are not what they were, or whose
    pairs contradict each other in the eyes of this model; and as `Workshop.read`. Calls `step` twice per pair.
    """
    requirement, stored = shop.do(lambda c: _stored(c, name_or_id))
    wanted = RequirementRequest(
        name=requirement.name,
        pairs=tuple(pair for pair, _ in stored),
        direction=requirement.direction,
        model=model or requirement.model,
        force=force or requirement.force,
    )
    card = find_prompt_card(wanted.model, shop.settings.models_dir)
    if not is_prepared(shop, requirement, card.scorer_id):
        images, _ = shop.read(wanted, reader)
        _require_unchanged(requirement, stored, images)
        made = shop.make(wanted, images, step=step)
        shop.do(lambda c: save_preparation(c, requirement, made))
    return requirement


def _stored(c: Connection, name_or_id: str) -> tuple[Requirement, list[tuple[Pair, str | None]]]:
    requirement = read_requirement(c, name_or_id)
    if requirement.state is not RequirementState.READY:
        raise InvalidRequest(
            f"requirement {requirement.id} is {requirement.state}", hint="name a version that is ready"
        )
    return requirement, read_pairs(c, requirement)


def _require_unchanged(requirement: Requirement, stored: Sequence[tuple[Pair, str | None]], images: PairImages) -> None:
    """Raise `InvalidRequest` unless the images are, byte for byte, those that the version was made of."""
    changed = [pair.path for (pair, known), now in zip(stored, images.digests, strict=True) if known != now]
    if changed:
        raise InvalidRequest(
            f"of requirement {requirement.id} these images are not what they were: {', '.join(changed)}",
            hint=f"put them back, or make a new version with `dpiqa requirements create {requirement.name}`",
        )


def is_prepared(shop: Workshop, requirement: Requirement, scorer_id: str) -> bool:
    """Whether the requirement has prompt features of a checkpoint."""
    return bool(shop.do(lambda c: read_preparations(c, requirement, scorer_id)))
