"""Known order without labels: distorted copies of a picture must score below it, and the stronger one lower.

The distortions are those of the demo and of evaluation (`dpiqa.imaging.distortions`). Labels of photographs teach
little about noise or oversharpening, which few of them show; an order needs no label (Liu et al., RankIQA, ICCV 2017).
The copies are computed once and kept beside the pixels of the data set.

Photographs of a data set have been compressed already, so a copy of one differs from it in the amount of compression
only. `DistortedLoss.shrink` makes pictures without any, which stand for their photographs in the order. A model that
has seen compressed photographs alone prefers a slightly compressed picture to one that is not: `light_jpeg` is against
that. An order of shrunk pictures alone does not hold for all photographs that are noisy or compressed already:
`unshrunk` leaves some as they are.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from dpiqa.imaging.distortions import KINDS, STRENGTHS, distort
from dpiqa.imaging.pixels import through
from dpiqa.training.config.kinds import DistortedLoss
from dpiqa.training.data.array_cache import cached_rows

_VERSION = 1  #: of the copies: raise it when distortions change
_LIGHT_JPEG = "light_jpeg"  #: a kind for training alone
_QUALITIES = (98, 95, 91, 86, 80)  #: of its strengths


@dataclass(frozen=True, slots=True)
class DistortedCopies:
    """Some training pictures, each distorted in its own way at two strengths."""

    folder: Path  #: on disk, of these copies alone
    rows: np.ndarray  #: (K,) row numbers in the data set, rising
    #: (2K, S, S, 3) uint8: all at the weaker strength, then all at the stronger one; (3K, S, S, 3) where pictures are
    #: shrunk: these first
    pixels: np.ndarray
    weak: np.ndarray  #: (K,) strengths, 1-4
    strong: np.ndarray  #: (K,) strengths, above `weak`, up to 5

    def of_batch(self, rows: np.ndarray) -> "BatchCopies":
        """Return the copies of a batch's pictures."""
        positions = np.flatnonzero(np.isin(rows, self.rows))
        first = np.searchsorted(self.rows, rows[positions])
        copies = np.concatenate([first + part for part in range(0, len(self.pixels), len(self.rows))])
        return BatchCopies(positions=positions, copies=copies, weak=self.weak[first], strong=self.strong[first])


@dataclass(frozen=True, slots=True)
class BatchCopies:
    """The pictures of a batch that have distorted copies."""

    positions: np.ndarray  #: (K,) positions in the batch
    copies: np.ndarray  #: (2K,) or (3K,) rows of `DistortedCopies.pixels`, in the same order of strengths
    weak: np.ndarray  #: (K,)
    strong: np.ndarray  #: (K,)

    @property
    def each(self) -> int:
        """Return how many there are of a picture: 2, or 3 with the shrunk one."""
        return len(self.copies) // len(self.positions)


def distorted_copies(
    pixels: np.ndarray, sha256: Sequence[str], train: np.ndarray, loss: DistortedLoss, cache: Path
) -> DistortedCopies | None:
    """Distort a share of the training rows of `pixels` (N, S, S, 3); None if `loss` asks for none.

    Pictures, kinds and strengths follow from the data set and `loss`, not from a run's seed: runs share the copies.
    """
    count = round(loss.share * len(train))
    if not count:
        return None
    rng = np.random.default_rng(0)
    rows = np.sort(rng.choice(train, count, replace=False))
    kinds = rng.choice(np.array(loss.kinds or sorted(KINDS)), count)
    strengths = np.sort([rng.choice(list(STRENGTHS), 2, replace=False) for _ in rows], axis=1)
    seeds = rng.integers(0, 2**31, count)
    if loss.light_jpeg:
        kinds = np.where(rng.random(count) < loss.light_jpeg, _LIGHT_JPEG, kinds)
    factors = np.full(count, loss.shrink)
    if loss.unshrunk:
        factors[(kinds != _LIGHT_JPEG) & (rng.random(count) < loss.unshrunk)] = 1

    levels = strengths.T if loss.shrink == 1 else np.stack([np.zeros(count, dtype=int), *strengths.T])

    def copied(copy: int) -> np.ndarray:
        level, index = divmod(copy, count)
        picture = reduced(pixels[rows[index]], int(factors[index]))
        if strength := int(levels[level, index]):
            picture = _distorted(picture, str(kinds[index]), strength, int(seeds[index]))
        return picture

    def make(copies: range) -> Iterator[np.ndarray]:
        with ThreadPoolExecutor() as pool:
            yield from pool.map(copied, copies)

    recipe: list[object] = [_VERSION, pixels.shape[1:], [sha256[row] for row in rows], kinds.tolist()]
    recipe += [levels.T.tolist(), factors.tolist() if loss.unshrunk else loss.shrink]
    folder = cache / f"distorted-{hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:16]}"
    shape = (levels.size, *pixels.shape[1:])
    copies = cached_rows(folder / "pixels" / "pixels.npy", shape, np.uint8, make, label="distorted copies")
    return DistortedCopies(folder=folder, rows=rows, pixels=copies, weak=strengths[:, 0], strong=strengths[:, 1])


def _distorted(picture: np.ndarray, kind: str, strength: int, seed: int) -> np.ndarray:
    image = Image.fromarray(picture)
    if kind == _LIGHT_JPEG:
        return np.asarray(through(image, "JPEG", quality=_QUALITIES[strength - 1]))
    return np.asarray(distort(image, kind, strength, seed))


def reduced(picture: np.ndarray, factor: int) -> np.ndarray:
    """Reduce a picture (S, S, 3) uint8 by averaging `factor` x `factor` pixels; mirror images fill it up to S again."""
    if factor == 1:
        return picture
    small = np.asarray(Image.fromarray(picture).reduce(factor))
    rest = len(picture) - len(small)
    return np.pad(small, ((0, rest), (0, rest), (0, 0)), mode="symmetric")


def order_term(scores: torch.Tensor, batch: BatchCopies, loss: DistortedLoss) -> torch.Tensor:
    """Shortfall of the order original > weak > strong from `loss.margin` a strength, times `loss.weight`.

    `scores`: (3K,), of the originals, the weaker and the stronger copies of `batch`, all computed in one way.
    """
    original, weak, strong = scores.chunk(3)
    first = torch.from_numpy(batch.weak).to(scores) * loss.margin
    second = torch.from_numpy(batch.strong - batch.weak).to(scores) * loss.margin
    shortfall = F.relu(weak - original + first).mean() + F.relu(strong - weak + second).mean()
    return loss.weight * shortfall
