"""Known order without labels: crops of a batch spoiled at two strengths must score below themselves, the worse lower.

The distortions are those of the demo and of evaluation (`dpiqa.imaging.distortions`). Labels of photographs teach
little about noise or oversharpening, which few of them show; an order needs no label (Liu et al., RankIQA, ICCV 2017).
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from dpiqa.imaging.distortions import KINDS, STRENGTHS, distort
from dpiqa.training.config import SpoiledLoss


@dataclass(frozen=True, slots=True)
class Spoiled:
    """Some crops of a batch, each spoiled in its own way at two strengths."""

    rows: np.ndarray  #: (K,) places in the batch
    pixels: np.ndarray  #: (2K, S, S, 3) uint8: all at the weaker strength, then all at the stronger one
    weak: np.ndarray  #: (K,) strengths, 1-4
    strong: np.ndarray  #: (K,) strengths, above `weak`, up to 5


def spoil(pixels: np.ndarray, loss: SpoiledLoss, rng: np.random.Generator) -> Spoiled | None:
    """Choose and spoil crops of `pixels` (B, S, S, 3) uint8; None if `loss` asks for none."""
    count = round(loss.share * len(pixels))
    if not count:
        return None
    rows = rng.choice(len(pixels), count, replace=False)
    kinds = rng.choice(np.array(loss.kinds or sorted(KINDS)), count)
    strengths = np.sort([rng.choice(list(STRENGTHS), 2, replace=False) for _ in rows], axis=1)
    seeds = rng.integers(0, 2**31, count)
    parts = [
        np.asarray(distort(Image.fromarray(pixels[row]), str(kind), int(strength), int(seed)))
        for column in strengths.T
        for row, kind, strength, seed in zip(rows, kinds, column, seeds, strict=True)
    ]
    return Spoiled(rows=rows, pixels=np.stack(parts), weak=strengths[:, 0], strong=strengths[:, 1])


def with_spoiled(pixels: np.ndarray, spoiled: Spoiled | None) -> np.ndarray:
    """Return the batch (B, S, S, 3) with the spoiled crops behind it."""
    return pixels if spoiled is None else np.concatenate([pixels, spoiled.pixels])


def order_terms(scores: torch.Tensor, spoiled: Spoiled | None, loss: SpoiledLoss) -> dict[str, torch.Tensor]:
    """How far the order original > weak > strong falls short of `loss.margin` a strength; nothing if none was spoiled.

    `scores`: (B + 2K,), those of the batch and then those of `spoiled.pixels`.
    """
    if spoiled is None:
        return {}
    weak, strong = scores[-2 * len(spoiled.rows) :].chunk(2)
    original = scores[torch.from_numpy(spoiled.rows).to(scores.device)]
    first = torch.from_numpy(spoiled.weak).to(scores) * loss.margin
    second = torch.from_numpy(spoiled.strong - spoiled.weak).to(scores) * loss.margin
    short = F.relu(weak - original + first).mean() + F.relu(strong - weak + second).mean()
    return {"spoiled": loss.weight * short}
