"""Known order without labels: pictures spoiled at two strengths must score below themselves, the worse lower.

The distortions are those of the demo and of evaluation (`dpiqa.imaging.distortions`). Labels of photographs teach
little about noise or oversharpening, which few of them show; an order needs no label (Liu et al., RankIQA, ICCV 2017).
The copies are made once and kept beside the pixels of the data set.
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
from dpiqa.training.config import SpoiledLoss
from dpiqa.training.rows import filled_rows

_VERSION = 1  #: of the copies: raise it when distortions change


@dataclass(frozen=True, slots=True)
class Copies:
    """Some training pictures, each spoiled in its own way at two strengths."""

    folder: Path  #: theirs on disk
    rows: np.ndarray  #: (K,) row numbers in the data set, rising
    pixels: np.ndarray  #: (2K, S, S, 3) uint8: all at the weaker strength, then all at the stronger one
    weak: np.ndarray  #: (K,) strengths, 1-4
    strong: np.ndarray  #: (K,) strengths, above `weak`, up to 5

    def among(self, rows: np.ndarray) -> "Spoiled":
        """Find the copies of a batch's pictures."""
        places = np.flatnonzero(np.isin(rows, self.rows))
        found = np.searchsorted(self.rows, rows[places])
        both = np.concatenate([found, found + len(self.rows)])
        return Spoiled(places=places, copies=both, weak=self.weak[found], strong=self.strong[found])


@dataclass(frozen=True, slots=True)
class Spoiled:
    """Which pictures of a batch are also shown spoiled."""

    places: np.ndarray  #: (K,) places in the batch
    copies: np.ndarray  #: (2K,) rows of `Copies.pixels`: all at the weaker strength, then all at the stronger one
    weak: np.ndarray  #: (K,)
    strong: np.ndarray  #: (K,)


def prepare_copies(
    pixels: np.ndarray, sha256: Sequence[str], train: np.ndarray, loss: SpoiledLoss, cache: Path
) -> Copies | None:
    """Spoil a share of the training rows of `pixels` (N, S, S, 3); None if `loss` asks for none.

    Which pictures, kinds and strengths follows from the data set and `loss`, not from a run's seed: runs share them.
    """
    count = round(loss.share * len(train))
    if not count:
        return None
    rng = np.random.default_rng(0)
    rows = np.sort(rng.choice(train, count, replace=False))
    kinds = rng.choice(np.array(loss.kinds or sorted(KINDS)), count)
    strengths = np.sort([rng.choice(list(STRENGTHS), 2, replace=False) for _ in rows], axis=1)
    seeds = rng.integers(0, 2**31, count)

    def spoilt(copy: int) -> np.ndarray:
        strong, place = divmod(copy, count)
        picture = Image.fromarray(pixels[rows[place]])
        return np.asarray(distort(picture, str(kinds[place]), int(strengths[place, strong]), int(seeds[place])))

    def make(copies: range) -> Iterator[np.ndarray]:
        with ThreadPoolExecutor() as pool:
            yield from pool.map(spoilt, copies)

    recipe = [_VERSION, pixels.shape[1:], [sha256[row] for row in rows], kinds.tolist(), strengths.tolist()]
    key = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:16]
    folder = cache / f"spoiled-{key}"
    shape = (2 * count, *pixels.shape[1:])
    made = filled_rows(folder / "pixels" / "pixels.npy", shape, np.uint8, make, what="spoiled copies")
    return Copies(folder=folder, rows=rows, pixels=made, weak=strengths[:, 0], strong=strengths[:, 1])


def order_term(scores: torch.Tensor, spoiled: Spoiled, loss: SpoiledLoss) -> torch.Tensor:
    """How far the order original > weak > strong falls short of `loss.margin` a strength, times `loss.weight`.

    `scores`: (3K,), of the originals, the weaker and the stronger copies of `spoiled`, all computed in one way.
    """
    original, weak, strong = scores.chunk(3)
    first = torch.from_numpy(spoiled.weak).to(scores) * loss.margin
    second = torch.from_numpy(spoiled.strong - spoiled.weak).to(scores) * loss.margin
    short = F.relu(weak - original + first).mean() + F.relu(strong - weak + second).mean()
    return loss.weight * short
