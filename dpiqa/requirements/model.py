"""The model that a requirement is made for. Imports torch only when one is loaded."""

from pathlib import Path
from typing import Protocol

import numpy as np

from dpiqa.errors import CheckpointError, ConfigurationError, InvalidRequest
from dpiqa.models.base import ModelCard, Scorer
from dpiqa.models.cards import find_card, verify, weights_path
from dpiqa.requirements.prepared import PreparedRequirement
from dpiqa.types import ModelKind


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
            cure="name a model of kind promptiqa (`dpiqa models list`)",
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
        raise CheckpointError(f"the card of {name} names no weights", cure="import the checkpoint again")
    try:
        from dpiqa.models.promptiqa.scorer import load_promptiqa  # noqa: PLC0415 - torch only when needed
    except ImportError as error:
        raise ConfigurationError(
            f"{card.name} needs {error.name}, which is not installed", cure="pip install 'dpiqa[promptiqa]'"
        ) from error
    model: PromptModel = load_promptiqa(card, weights, device=device, threads=threads)
    return model
