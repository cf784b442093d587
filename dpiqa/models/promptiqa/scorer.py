"""A PromptIQA checkpoint in memory: prompt features from image-score pairs, and scorers by requirements.

Everything that depends on the requirement alone is computed once: a pair's feature when the requirement is made, their
fusion when a scorer is. An image then costs one pass, however many pairs there are.
"""

from pathlib import Path
from typing import cast

import numpy as np
import torch

from dpiqa.errors import CheckpointError, DeviceMemoryError
from dpiqa.imaging.preprocessing import ResizeFilter, require_opencv
from dpiqa.models.base import ModelCard, Scorer, require_shape
from dpiqa.models.promptiqa.network import PromptIQA
from dpiqa.models.scoring_network import ScoringNetwork
from dpiqa.models.torch_scorer import DTYPES, image_tensor, load_network, ready_scorer
from dpiqa.requirement import PreparedRequirement
from dpiqa.scorer_id import ScorerId
from dpiqa.types import Direction


def load_promptiqa(card: ModelCard, weights: Path, *, device: str, threads: int | None) -> "PromptIQACheckpoint":
    """Load the card's checkpoint. Raises `CheckpointError`, and `ConfigurationError` for a missing device or OpenCV."""
    if card.preprocessing.filter is ResizeFilter.CUBIC_OPENCV:
        require_opencv()
    network, torch_device = load_network(card, weights, device=device, threads=threads)
    return PromptIQACheckpoint(card, cast("PromptIQA", network), torch_device)


class PromptIQACheckpoint:
    """A checkpoint without a requirement, which cannot score yet. Not thread-safe; its scorers share the network."""

    def __init__(self, card: ModelCard, network: PromptIQA, device: torch.device) -> None:
        self.card, self.network, self._device = card, network, device

    @torch.inference_mode()
    def features(self, pixels: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Make the prompt features of image-score pairs, each from its own pair only.

        Args:
            pixels: (N, H, W, 3) uint8, as the card's preprocessing makes them.
            scores: (N,) in [0, 1].

        Returns:
            (N, D) float32.

        Raises:
            DeviceMemoryError: one image does not fit on the device.
            ValueError: another shape, or a score out of range.
        """
        require_shape(pixels, self.card)
        if scores.shape != (len(pixels),) or not ((scores >= 0) & (scores <= 1)).all():
            raise ValueError(f"expected ({len(pixels)},) scores in 0-1, got {scores.shape} {scores}")
        try:
            rows = [self._feature(pixel, score) for pixel, score in zip(pixels, scores, strict=True)]
        except torch.cuda.OutOfMemoryError:
            rows = None
        if rows is None:  # raised out here: in the handler the traceback still holds the image's tensors
            raise DeviceMemoryError(f"one image does not fit on {self._device}")
        return torch.cat(rows).float().cpu().numpy()

    def scorer(self, requirement: PreparedRequirement) -> Scorer:
        """Make the scorer by `requirement`. Raises `CheckpointError` if its features are not of these weights."""
        self._check(requirement)
        features = torch.from_numpy(requirement.features).to(self._device, DTYPES[self.card.precision])
        prompted = PromptedNetwork(self.network, features).eval()
        return ready_scorer(prompted_card(self.card, requirement), prompted, self._device)

    def _feature(self, pixels: np.ndarray, score: np.floating) -> torch.Tensor:
        """Return (1, D), of one pair alone, so that many pairs need no more memory than one."""
        images = image_tensor(pixels[None], self.card, self._device, DTYPES[self.card.precision])
        scores = torch.tensor([float(score)], device=self._device)
        return self.network.prompt_features(to_network_range(images), scores)

    def _check(self, requirement: PreparedRequirement) -> None:
        origin, own = ScorerId.parse(requirement.base_scorer_id), ScorerId.parse(self.card.scorer_id)
        if not origin.same_checkpoint(own):
            raise CheckpointError(
                f"the requirement {requirement.id} was made with {origin.checkpoint}, this model is {own.checkpoint}",
                hint=f"make its features: `dpiqa requirements prepare {requirement.id} --model {self.card.name}`",
            )
        width = self.network.config.width
        if requirement.features.ndim != 2 or requirement.features.shape[1] != width or not len(requirement.features):
            raise CheckpointError(
                f"the features of {requirement.id} have shape {requirement.features.shape}, expected (N, {width})",
                hint="make a new version of the requirement",
            )


class PromptedNetwork(ScoringNetwork):
    """A PromptIQA network and one requirement's fused prompts."""

    prompts: torch.Tensor

    def __init__(self, network: PromptIQA, features: torch.Tensor) -> None:
        super().__init__()
        self.network = network
        with torch.inference_mode():
            self.register_buffer("prompts", network.fuse_prompts(features))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 3, S, S) in [0, 1] -> scores (B,) in [0, 1], image vectors (B, D)."""
        vectors = self.network.image_vectors(to_network_range(images))
        return self.network.compare(vectors, self.prompts), vectors


def to_network_range(images: torch.Tensor) -> torch.Tensor:
    """[0, 1] -> [-1, 1]: mean and deviation 0.5 in every channel."""
    return (images - 0.5) / 0.5


def prompted_card(card: ModelCard, requirement: PreparedRequirement) -> ModelCard:
    """Return the card of the scorer by a requirement: its scores are on the requirement's scale."""
    scale = f"0-1 on the scale of the requirement {requirement.id}: {requirement.direction}"
    lower = requirement.direction is Direction.LOWER
    return card.model_copy(update={"requirement": requirement.id, "score_scale": scale, "lower_is_better": lower})
