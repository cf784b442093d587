"""Pixels on their way into a network: random crops at native resolution, coarser maps cut alike, whole pictures."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from dpiqa.models.seeds import content_seeds
from dpiqa.models.vae import Posterior


@dataclass(frozen=True, slots=True)
class Crops:
    """Where a batch was cut: row `index[i]`, top-left `top[i]`, `left[i]`, mirrored or not."""

    index: np.ndarray
    top: np.ndarray
    left: np.ndarray
    flip: np.ndarray
    size: int  #: pixels a side

    def cut(self, pixels: np.ndarray) -> np.ndarray:
        """Cut the crops out of `pixels` (N, H, W, C) -> (B, size, size, C)."""
        return self.cut_own([pixels[row] for row in self.index], 1)

    def cut_own(self, maps: list[np.ndarray] | np.ndarray, cell: int) -> np.ndarray:
        """Cut each crop out of its own map (H/cell, W/cell, C), `cell` pixels per cell and side -> (B, s, s, C)."""
        side = self.size // cell
        places = zip(maps, self.top // cell, self.left // cell, self.flip, strict=True)
        crops = ((one[top : top + side, left : left + side], flip) for one, top, left, flip in places)
        return np.stack([crop[:, ::-1] if flip else crop for crop, flip in crops])


def random_crops(
    index: np.ndarray, extent: int, size: int, align: int, rng: np.random.Generator, *, mirror: bool = True
) -> Crops:
    """Choose random square crops of native pixels, corners on multiples of `align` so that maps can be cut alike."""
    positions = (extent - size) // align + 1
    top, left = rng.integers(0, positions, (2, len(index))) * align
    flip = rng.random(len(index)) < (0.5 if mirror else 0)
    return Crops(index=index, top=top, left=left, flip=flip, size=size)


def seeing(network: nn.Module, pixels: np.ndarray) -> Callable[..., tuple[torch.Tensor, ...]]:
    """Return the network as a call on whole pictures; one that samples its latents gets each picture's own seed."""
    config: Any = network.config
    if getattr(config, "posterior", Posterior.MEAN) is Posterior.MEAN:
        return network
    return partial(network, seeds=content_seeds(pixels))


def as_images(pixels: np.ndarray, device: torch.device | str = "cpu") -> torch.Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32 in [0, 1] on the device, channels last."""
    batch = torch.from_numpy(np.require(pixels, requirements=["C", "W"])).to(device, non_blocking=True)
    return batch.permute(0, 3, 1, 2).float().div_(255)
