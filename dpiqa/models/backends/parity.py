"""The check at load that a backend gives the scores of eager PyTorch. Free of torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dpiqa.errors import ConfigurationError
from dpiqa.models.base import ModelCard
from dpiqa.types import Precision

#: Largest difference of one picture's score, of 1 + its size: as docs/models.md states for batches, and precisions.
LARGEST_DIFFERENCE = {Precision.FLOAT32: 1e-3, Precision.BFLOAT16: 0.03, Precision.FLOAT16: 5e-3}
LEAST_CORRELATION = 0.95  #: of the ranks of the pictures
_ROUNDING = 1e-5  #: differences up to this, of 1 + the score's size, may change the ranks of pictures


@dataclass(frozen=True, slots=True)
class Parity:
    """Agreement of a backend's scores with those of eager PyTorch."""

    difference: float  #: largest one, of 1 + the score's size
    correlation: float  #: of the ranks, -1 to 1; 1 where one score is given to all pictures

    @classmethod
    def of(cls, scores: np.ndarray, expected: np.ndarray) -> "Parity":
        """Compare the scores (N,) of the same pictures; a difference is infinite where one of them is not finite."""
        differences = np.abs(scores - expected) / (1 + np.abs(expected))
        largest = float(differences.max()) if np.isfinite(differences).all() else float("inf")
        return cls(largest, _rank_correlation(scores, expected))

    def is_enough(self, precision: Precision) -> bool:
        """Return whether the backend may be used in this precision."""
        if self.difference <= _ROUNDING:
            return True
        return self.difference <= LARGEST_DIFFERENCE[precision] and self.correlation >= LEAST_CORRELATION


def require_parity(card: ModelCard, scores: np.ndarray, expected: np.ndarray) -> Parity:
    """Return the agreement of the card's backend with eager PyTorch. Raises `ConfigurationError` if it is not enough.

    Args:
        card: the scorer's, with its backend.
        scores: its scores of `parity_pictures`, (N,).
        expected: those of eager PyTorch.
    """
    parity = Parity.of(scores, expected)
    if not parity.is_enough(card.precision):
        limit = LARGEST_DIFFERENCE[card.precision]
        raise ConfigurationError(
            f"{card.backend} does not give the scores of {card.name}: {len(scores)} test pictures differ by up to "
            f"{parity.difference:.2g} (limit {limit:g}), rank correlation {parity.correlation:.2f} (at least "
            f"{LEAST_CORRELATION:g})",
            hint="set DPIQA_BACKEND=eager, or try another version of that library",
        )
    return parity


def farthest_scores(
    score: Callable[[np.ndarray], np.ndarray], pictures: np.ndarray, expected: np.ndarray, batches: Sequence[int]
) -> np.ndarray:
    """Score pictures in batches of several sizes; return for each the score that differs most from the expected one.

    Args:
        score: of a scorer.
        pictures: (N, H, W, 3) uint8.
        expected: their scores, (N,).
        batches: numbers of pictures, the first of which are scored together; beyond N they come again. One is at least
            N.
    """
    farthest = expected.copy()
    for n in batches:
        which = np.arange(n) % len(pictures)
        for number, value in zip(which, score(pictures[which]), strict=True):
            farther = not abs(value - expected[number]) <= abs(farthest[number] - expected[number])  # or not a number
            if farther and np.isfinite(farthest[number]):
                farthest[number] = value
    return farthest


def parity_pictures(height: int, width: int) -> np.ndarray:
    """Return pictures of several kinds of content, the same each time: (8, height, width, 3) uint8.

    One colour, a ramp, a coarse pattern, noise, soft colours, the same with grain, the same in blocks, and rectangles.
    """
    rng = np.random.default_rng(0)
    rows, columns = np.indices((height, width))
    ramp = columns / max(1, width - 1) * 255
    pattern = ((rows + columns) // 16 % 2) * 200.0
    soft = np.stack([_soft(rng, rows / height, columns / width) for _ in range(3)], axis=-1)
    blocks = soft[rows // 8 * 8, columns // 8 * 8]
    rectangles = np.full((height, width, 3), 230.0)
    for _ in range(24):
        top, left = rng.integers(0, height), rng.integers(0, width)
        tall, wide = rng.integers(1, 1 + height // 3), rng.integers(1, 1 + width // 3)
        rectangles[top : top + tall, left : left + wide] = rng.integers(0, 256, 3)
    pictures = [
        np.full((height, width, 3), 118.0),
        np.repeat(ramp[..., None], 3, axis=-1),
        np.stack([pattern, pattern * 0.6, pattern * 0.2], axis=-1),
        rng.integers(0, 256, (height, width, 3)).astype(float),
        soft,
        soft + rng.normal(0, 12, soft.shape),
        blocks,
        rectangles,
    ]
    clipped: np.ndarray = np.clip(np.stack(pictures), 0, 255)
    return clipped.astype(np.uint8)


def _soft(rng: np.random.Generator, down: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return a sum of slow waves over a picture, 0 to 255. `down`, `right`: place in it, 0 to 1."""
    waves = [
        amplitude * np.sin(2 * np.pi * (rng.uniform(0, 3) * down + rng.uniform(0, 3) * right + rng.uniform()))
        for amplitude in (60, 40, 20)
    ]
    total: np.ndarray = 127 + np.sum(waves, axis=0)
    return total


def _rank_correlation(scores: np.ndarray, expected: np.ndarray) -> float:
    """Return Spearman's rank correlation, without scipy, which takes half a second to import."""
    if np.ptp(expected) == 0:
        return 1.0
    ranks = np.array([np.argsort(np.argsort(values, kind="stable"), kind="stable") for values in (scores, expected)])
    return float(np.asarray(np.corrcoef(ranks.astype(np.float64)))[0, 1])
