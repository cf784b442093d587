"""Pixels on their way into a network: random crops at native resolution, coarser maps cut alike, whole pictures."""

from dataclasses import dataclass

import numpy as np
import torch

from dpiqa.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Crops:
    """Square crops of a batch: row `index[i]`, corner at `top[i]`, `left[i]`, mirrored or not."""

    index: np.ndarray  #: (B,)
    top: np.ndarray  #: (B,) pixels
    left: np.ndarray  #: (B,) pixels
    flip: np.ndarray  #: (B,) bool
    size: int  #: pixels a side

    def at(self, positions: np.ndarray) -> "Crops":
        """Return the crops at these positions of the batch."""
        index, top, left, flip = (part[positions] for part in (self.index, self.top, self.left, self.flip))
        return Crops(index=index, top=top, left=left, flip=flip, size=self.size)

    def cut(self, pixels: np.ndarray) -> np.ndarray:
        """Cut the crops out of `pixels` (N, H, W, C) -> (B, size, size, C)."""
        return self.cut_maps([pixels[row] for row in self.index], 1)

    def cut_maps(self, maps: list[np.ndarray] | np.ndarray, cell: int) -> np.ndarray:
        """Cut each crop out of its own map (H/cell, W/cell, C), `cell` pixels per cell and side -> (B, s, s, C)."""
        side = self.size // cell
        corners = zip(maps, self.top // cell, self.left // cell, self.flip, strict=True)
        crops = ((image[top : top + side, left : left + side], flip) for image, top, left, flip in corners)
        return np.stack([crop[:, ::-1] if flip else crop for crop, flip in crops])


def random_crops(
    index: np.ndarray, extent: int, size: int, align: int, rng: np.random.Generator, *, mirror: bool = True
) -> Crops:
    """Draw square crops of the rows `index`, corners on multiples of `align` so that maps can be cut alike."""
    positions = (extent - size) // align + 1
    top, left = rng.integers(0, positions, (2, len(index))) * align
    flip = rng.random(len(index)) < (0.5 if mirror else 0)
    return Crops(index=index, top=top, left=left, flip=flip, size=size)


def check_crop(crop: int, extent: int, align: int) -> None:
    """Raise `InvalidRequest` unless crops fit the pictures and the grid of the maps."""
    if crop > extent or crop % align or extent % align:
        raise InvalidRequest(
            f"crops of {crop} pixels do not fit pictures of {extent} on a grid of {align}",
            hint=f"set plan.crop to a multiple of {align}, at most {extent}, or leave it out for whole pictures",
        )


def as_images(pixels: np.ndarray, device: torch.device | str = "cpu") -> torch.Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32 in [0, 1] on the device, channels last."""
    batch = torch.from_numpy(np.require(pixels, requirements=["C", "W"])).to(device, non_blocking=True)
    return batch.permute(0, 3, 1, 2).float().div_(255)
