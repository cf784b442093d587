"""Scene statistics of whole pictures, kept on disk: without weights, they need not be computed each epoch."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from dpiqa.models.statistics import CELL, CHANNELS, scene_statistics
from dpiqa.training.crops import as_images
from dpiqa.training.rows import filled_rows

VERSION = 2  #: of `scene_statistics`: raise it when its values change


def cached_statistics(pixels: np.ndarray, folder: Path) -> np.ndarray:
    """`pixels` (N, S, S, 3) uint8, to which `folder` belongs -> (N, S/CELL, S/CELL, CHANNELS) float16.

    Crops cut out of it differ from the statistics of a crop at its edge alone, where the window looks outside.
    """
    count, extent = pixels.shape[:2]
    shape = (count, extent // CELL, extent // CELL, CHANNELS)

    @torch.inference_mode()
    def make(rows: range) -> Iterator[np.ndarray]:
        for row in rows:
            found = scene_statistics(as_images(pixels[row : row + 1]))
            yield found[0].permute(1, 2, 0).numpy()

    return filled_rows(
        folder / f"statistics-{VERSION}" / "statistics.npy", shape, np.float16, make, what="scene statistics"
    )


def as_maps(statistics: np.ndarray, device: torch.device) -> torch.Tensor:
    """(B, m, m, C) float16 -> (B, C, m, m) float32 on the device."""
    return torch.from_numpy(np.ascontiguousarray(statistics)).to(device).float().permute(0, 3, 1, 2)
