"""Labelled photographs: reading their labels, and their pixels as one array that random crops are cut from."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import structlog

from dpiqa.datasets.csvfile import read_labels
from dpiqa.datasets.labelled import LabelledImage
from dpiqa.imaging.decode import decode_and_prepare
from dpiqa.imaging.limits import Limits
from dpiqa.imaging.preprocessing import Preprocessing

__all__ = ["Crops", "LabelledImage", "load_pixels", "random_crops", "read_labels"]
log = structlog.get_logger()


def load_pixels(images: Sequence[LabelledImage], preprocessing: Preprocessing, cache: Path) -> np.ndarray:
    """Map the prepared pixels of all images, (N, H, W, 3) uint8, from a file below `cache`, made once."""
    names = "\n".join(str(image.path) for image in images) + preprocessing.version
    file = cache / f"pixels-{hashlib.sha256(names.encode()).hexdigest()[:16]}.npy"
    if not file.exists():
        cache.mkdir(parents=True, exist_ok=True)
        _decode_all(images, preprocessing, file)
    pixels: np.ndarray = np.load(file, mmap_mode="r")
    return pixels


def _decode_all(images: Sequence[LabelledImage], preprocessing: Preprocessing, file: Path) -> None:
    partial = file.with_suffix(".partial")
    shape = (len(images), preprocessing.height, preprocessing.width, 3)
    pixels = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
    for index, image in enumerate(images):
        pixels[index] = decode_and_prepare(image.path.read_bytes(), preprocessing, Limits())
    pixels.flush()
    partial.rename(file)
    log.info("pixels_cached", images=len(images), file=str(file))


@dataclass(frozen=True, slots=True)
class Crops:
    """Where a batch was cut: row `index[i]`, top-left `top[i]`, `left[i]`, mirrored or not."""

    index: np.ndarray
    top: np.ndarray
    left: np.ndarray
    flip: np.ndarray
    size: int  #: pixels a side

    def cut(self, maps: np.ndarray, cell: int = 1) -> np.ndarray:
        """Cut the crops out of `maps` (N, H/cell, W/cell, C), `cell` pixels per cell and side -> (B, s, s, C)."""
        side = self.size // cell
        crops = [
            maps[i, top : top + side, left : left + side]
            for i, top, left in zip(self.index, self.top // cell, self.left // cell, strict=True)
        ]
        return np.stack([c[:, ::-1] if flip else c for c, flip in zip(crops, self.flip, strict=True)])


def random_crops(index: np.ndarray, extent: int, size: int, align: int, rng: np.random.Generator) -> Crops:
    """Choose random square crops of native pixels, corners on multiples of `align` so that maps can be cut alike."""
    positions = (extent - size) // align + 1
    top, left = rng.integers(0, positions, (2, len(index))) * align
    return Crops(index=index, top=top, left=left, flip=rng.random(len(index)) < 0.5, size=size)
