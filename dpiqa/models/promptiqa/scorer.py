"""A PromptIQA checkpoint in memory: prompt features from image-score pairs, and scorers by requirements.

Everything that depends on the requirement alone is computed once: a pair's feature when the requirement is made, their
fusion when a scorer is. An image then costs one pass, however many pairs there are, and however many requirements it is
scored by one after the other: its vector, nearly all of the work, depends on the checkpoint alone and is kept a while.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
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

#: Image vectors that a checkpoint keeps: those of all images in flight in a process, and more than the pairs of a
#: requirement. One has 512 bytes at the published size.
VECTORS_KEPT = 4096
BLANK = b""  #: stands for the digest of a black image


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
        self._vectors = ImageVectors(network)

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
            rows = [self._feature(pixel[None], float(score)) for pixel, score in zip(pixels, scores, strict=True)]
        except torch.cuda.OutOfMemoryError:
            rows = None
        if rows is None:  # raised out here: in the handler the traceback still holds the image's tensors
            raise DeviceMemoryError(f"one image does not fit on {self._device}")
        return torch.cat(rows).float().cpu().numpy()

    def scorer(self, requirement: PreparedRequirement) -> Scorer:
        """Make the scorer by `requirement`. Raises `CheckpointError` if its features are not of these weights."""
        self._check(requirement)
        features = torch.from_numpy(requirement.features).to(self._device, DTYPES[self.card.precision])
        prompted = PromptedNetwork(self._vectors, features).eval()
        return ready_scorer(prompted_card(self.card, requirement), prompted, self._device)

    def _feature(self, pixels: np.ndarray, score: float) -> torch.Tensor:
        """(1, H, W, 3) -> (1, D), of one pair alone, so that many pairs need no more memory than one."""
        images = image_tensor(pixels, self.card, self._device, DTYPES[self.card.precision])
        vectors = self._vectors.of(images, pixel_digests(pixels))
        return self.network.pair_features(vectors, torch.tensor([score], device=self._device))

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


class ImageVectors:
    """Image vectors by one network, kept by the content of the image's pixels. Thread-safe.

    The scorers of a checkpoint share it: an image that several requirements score passes the network once, and so does
    the image of a pair, whose vector its prompt feature and its leave-one-out score need. A blank image is not kept:
    a worker scores one by each new scorer to see how long an image takes.
    """

    def __init__(self, network: PromptIQA, kept: int = VECTORS_KEPT) -> None:
        self.network, self._n_kept = network, kept
        self._kept: OrderedDict[bytes, torch.Tensor] = OrderedDict()  # the one used last is at the end
        self._lock = threading.Lock()

    def of(self, images: torch.Tensor, digests: Sequence[bytes]) -> torch.Tensor:
        """(B, 3, S, S) in [0, 1], with the digest of each image's pixels -> (B, D)."""
        with self._lock:
            vectors = {digest: self._kept[digest] for digest in digests if digest in self._kept}
        new = {digest: at for at, digest in enumerate(digests) if digest not in vectors}
        if new:
            computed = self.network.image_vectors(to_network_range(images[list(new.values())]))
            vectors.update(zip(new, computed.unbind(), strict=True))
        with self._lock:
            for digest in digests:
                if digest != BLANK:
                    self._kept[digest] = vectors[digest]
                    self._kept.move_to_end(digest)
            while len(self._kept) > self._n_kept:
                self._kept.popitem(last=False)
        return torch.stack([vectors[digest] for digest in digests])


class PromptedNetwork(ScoringNetwork):
    """A PromptIQA network and one requirement's fused prompts."""

    prompts: torch.Tensor

    def __init__(self, vectors: ImageVectors, features: torch.Tensor) -> None:
        super().__init__()
        self.network, self._vectors = vectors.network, vectors
        with torch.inference_mode():
            self.register_buffer("prompts", self.network.fuse_prompts(features))

    def seeded(self, pixels: np.ndarray) -> Callable[..., tuple[torch.Tensor, ...]]:
        """Return the network as a function of the images that `pixels` (B, H, W, 3) uint8 became."""
        return partial(self, digests=pixel_digests(pixels))

    def forward(self, images: torch.Tensor, digests: Sequence[bytes]) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 3, S, S) in [0, 1] with the digests of their pixels -> scores (B,) in [0, 1], image vectors (B, D)."""
        vectors = self._vectors.of(images, digests)
        return self.network.compare(vectors, self.prompts), vectors


def pixel_digests(pixels: np.ndarray) -> list[bytes]:
    """`pixels` (B, H, W, 3) uint8 -> a digest of each image; `BLANK` for a black one."""
    return [hashlib.sha256(np.ascontiguousarray(image).data).digest() if image.any() else BLANK for image in pixels]


def to_network_range(images: torch.Tensor) -> torch.Tensor:
    """[0, 1] -> [-1, 1]: mean and deviation 0.5 in every channel."""
    return (images - 0.5) / 0.5


def prompted_card(card: ModelCard, requirement: PreparedRequirement) -> ModelCard:
    """Return the card of the scorer by a requirement: its scores are on the requirement's scale."""
    scale = f"0-1 on the scale of the requirement {requirement.id}: {requirement.direction}"
    lower = requirement.direction is Direction.LOWER
    return card.model_copy(update={"requirement": requirement.id, "score_scale": scale, "lower_is_better": lower})
