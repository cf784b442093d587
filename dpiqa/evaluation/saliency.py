"""Saliency: the regions of a picture that change its score (DP-IQA's Figure 4), for every kind of scorer.

Each region is scored alone: half the picture's width and height, mirrored until it fills the model's input, so that
scale, edges and statistics stay those of the picture. Its score minus the score of the whole picture tells whether the
region pulls the score down or holds it up. Only `Scorer.score` is needed: no gradients and no access to the network.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from dpiqa.imaging.preprocessing import filled
from dpiqa.models.base import Scorer
from dpiqa.pipeline.device import batched, score_images

GRID = 8  #: cells per side of the map
SPAN = 4  #: cells per side of a region: half the picture


@dataclass(frozen=True, slots=True)
class Saliency:
    """A picture's score and the effect of its regions."""

    score: float  #: of the whole, MOS/100
    regions: np.ndarray  #: (8, 8) float64, rows from the top: mean score of the regions over a cell, alone, MOS/100

    @property
    def effect(self) -> np.ndarray:
        """(8, 8) in MOS/100: below 0 pulls the score down, above 0 holds it up."""
        return self.regions - self.score

    @property
    def quadrants(self) -> np.ndarray:
        """Mean effect of each quadrant, (2, 2)."""
        half = GRID // 2
        means: np.ndarray = self.effect.reshape(2, half, 2, half).mean(axis=(1, 3))
        return means


def saliency(scorer: Scorer, pixels: np.ndarray, *, size: tuple[int, int] | None = None, batch: int = 8) -> Saliency:
    """Score the whole and 25 regions of `pixels` (H, W, 3) uint8, made by the scorer's preprocessing.

    `size`: width and height of the picture in the middle of `pixels` (`Preprocessing.picture_size`); None: all of it.
    Raises `ImageRejected` where a score is not a number.
    """
    answers: list[float] = []
    for images in batched(views_of(pixels, size), batch):
        for answer in score_images(scorer, images).scores:
            if isinstance(answer, Exception):
                raise answer
            answers.append(answer)
    return of_scores(answers)


def views_of(pixels: np.ndarray, size: tuple[int, int] | None = None) -> list[np.ndarray]:
    """Return what is scored: the whole (H, W, 3) uint8, then its 25 regions, all of that shape. Arguments as above."""
    height, width = pixels.shape[:2]
    columns, rows = size or (width, height)
    top, left = (height - rows) // 2, (width - columns) // 2
    picture = pixels[top : top + rows, left : left + columns]
    return [pixels, *(filled(_region(picture, *corner), width, height) for corner in _corners())]


def of_scores(scores: Sequence[float]) -> Saliency:
    """Return the saliency by the scores of `views_of`, MOS/100, in their order."""
    return Saliency(scores[0], _spread(np.array(scores[1:])))


def _corners() -> Iterator[tuple[int, int]]:
    """Yield the top and left cell of each region."""
    yield from product(range(GRID - SPAN + 1), repeat=2)


def _region(picture: np.ndarray, top: int, left: int) -> np.ndarray:
    """Return the region at a cell."""
    height, width = picture.shape[:2]
    rows = slice(top * height // GRID, (top + SPAN) * height // GRID)
    columns = slice(left * width // GRID, (left + SPAN) * width // GRID)
    return picture[rows, columns]


def _spread(scores: np.ndarray) -> np.ndarray:
    """Mean over the regions that cover each cell: regions (25,) -> cells (8, 8)."""
    total, count = np.zeros((GRID, GRID)), np.zeros((GRID, GRID))
    for (top, left), score in zip(_corners(), scores, strict=True):
        total[top : top + SPAN, left : left + SPAN] += score
        count[top : top + SPAN, left : left + SPAN] += 1
    return total / count
