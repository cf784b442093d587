"""Building of requirements. No transaction is open while images are read or a model runs."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine

from dpiqa.errors import CheckpointError, InvalidRequest
from dpiqa.extras import required_for
from dpiqa.models.base import ModelCard, PromptModel
from dpiqa.models.cards import find_card, verify, weights_path
from dpiqa.pipeline.preparer import Decoder
from dpiqa.requirement import Pair, Preparation, RequirementRequest
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

T = TypeVar("T")


def find_prompt_card(name: str, models_dir: Path | None) -> ModelCard:
    """Return the card of a PromptIQA model. Raises `NotFound`, and `InvalidRequest` for a model of another kind."""
    card = find_card(name, models_dir)
    if card.kind is not ModelKind.PROMPTIQA:
        raise InvalidRequest(
            f"{name} cannot score by a requirement: it is of kind {card.kind}",
            hint="name a model of kind promptiqa (`dpiqa models list`)",
        )
    return card


def load_prompt_model(name: str, settings: Settings) -> PromptModel:
    """Load a PromptIQA checkpoint onto the settings' device, its weights verified.

    Raises `NotFound`, `InvalidRequest`, `CheckpointError`, and `ConfigurationError` where torch is not installed.
    """
    card = find_prompt_card(name, settings.models_dir)
    verify(card, settings.models_dir)
    weights = weights_path(card, settings.models_dir)
    if weights is None:
        raise CheckpointError(f"the card of {name} names no weights", hint="import the checkpoint again")
    with required_for(card.name, "promptiqa"):
        from dpiqa.models.promptiqa.scorer import load_promptiqa  # noqa: PLC0415 - torch only when needed
    model: PromptModel = load_promptiqa(card, weights, device=settings.device, threads=settings.threads)
    return model


@dataclass(frozen=True, slots=True)
class RequirementBuilder:
    """Builds requirements: reads their images, checks their pairs by a model, and stores both."""

    engine: Engine
    decoder: Decoder
    settings: Settings
    load: Callable[[str, Settings], PromptModel] = load_prompt_model

    def read(self, request: RequirementRequest, reader: PairReader) -> tuple[PairImages, str]:
        """Return the pairs' images as the request's model sees them, and its scorer id.

        Raises `InvalidRequest` naming images that cannot be used, or for a model of another kind; `NotFound`,
        `ConfigurationError`, `Unavailable`.
        """
        card = find_prompt_card(request.model, self.settings.models_dir)
        return read_images(request.pairs, reader, self.decoder, card.preprocessing, self.settings), card.scorer_id

    def check(
        self, request: RequirementRequest, images: PairImages, *, step: Callable[[], None] = lambda: None
    ) -> Preparation:
        """Load the model and check the pairs by it. Raises as `load` and `dpiqa.requirements.checks.check`."""
        model = self.load(request.model, self.settings)
        from dpiqa.requirements.checks import check  # noqa: PLC0415 - SciPy, which comes with the models' extra

        return check(request.pairs, images, model, force=request.force, step=step)

    def commit(self, statements: Callable[[Connection], T]) -> T:
        """Run one transaction, again where Postgres asks for it. Raises `DatabaseUnavailable`."""

        def attempt() -> T:
            with transaction(self.engine) as c:
                return statements(c)

        return retry_transaction(attempt)

    def is_prepared(self, requirement: Requirement, scorer_id: str) -> bool:
        """Return whether the requirement has prompt features of a checkpoint."""
        return bool(self.commit(lambda c: read_preparations(c, requirement, scorer_id)))

    def create(
        self, request: RequirementRequest, reader: PairReader, *, step: Callable[[], None] = lambda: None
    ) -> Requirement:
        """Read and check the pairs and store them as the next version; or return the version that is identical.

        An identical version gets prompt features of the model as it is now, if it has none yet. Raises
        `InvalidRequest` for pairs that cannot be accepted, and as `read`. Calls `step` after each pair.
        """
        request.check()
        images, scorer_id = self.read(request, reader)
        content = request.content_hash(images.digests)
        identical = self.commit(lambda c: same_content(c, request.name, content))
        if identical and self.is_prepared(identical, scorer_id):
            return identical
        preparation = self.check(request, images, step=step)

        def store(c: Connection) -> Requirement:
            lock_requirement(c, request.name)
            version = same_content(c, request.name, content) or add_requirement(c, request, digests=images.digests)
            save_preparation(c, version, preparation)
            return version

        return self.commit(store)

    def prepare_again(
        self,
        name_or_id: str,
        reader: PairReader,
        *,
        model: str | None = None,
        force: bool = False,
        step: Callable[[], None] = lambda: None,
    ) -> Requirement:
        """Add the missing prompt features of a stored version: by its own model as it is now, or by `model`.

        Raises `NotFound`; `InvalidRequest` for a version that is not ready, whose images have changed, or whose pairs
        contradict each other by this model; and as `read`. Calls `step` after each pair.
        """
        requirement, stored = self.commit(lambda c: _read_ready(c, name_or_id))
        request = RequirementRequest(
            name=requirement.name,
            pairs=tuple(pair for pair, _ in stored),
            direction=requirement.direction,
            model=model or requirement.model,
            force=force or requirement.force,
        )
        card = find_prompt_card(request.model, self.settings.models_dir)
        if self.is_prepared(requirement, card.scorer_id):
            return requirement
        images, _ = self.read(request, reader)
        changed = [pair.path for (pair, digest), now in zip(stored, images.digests, strict=True) if digest != now]
        if changed:
            raise InvalidRequest(
                f"these images of requirement {requirement.id} have changed: {', '.join(changed)}",
                hint=f"restore them, or make a new version with `dpiqa requirements create {requirement.name}`",
            )
        preparation = self.check(request, images, step=step)
        self.commit(lambda c: save_preparation(c, requirement, preparation))
        return requirement


def _read_ready(c: Connection, name_or_id: str) -> tuple[Requirement, list[tuple[Pair, str | None]]]:
    """Return a version and its pairs, each with its image's digest. Raises `InvalidRequest` unless it is ready."""
    requirement = read_requirement(c, name_or_id)
    if requirement.state is not RequirementState.READY:
        raise InvalidRequest(
            f"requirement {requirement.id} is {requirement.state}", hint="name a version that is ready"
        )
    return requirement, read_pairs(c, requirement)
