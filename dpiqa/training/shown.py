"""What a network is shown of the training pictures: a batch of crops, their spoiled copies, their scene statistics."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from dpiqa.models.statistics import CELL
from dpiqa.training.config import SpoiledLoss
from dpiqa.training.crops import Crops, as_images, random_crops
from dpiqa.training.labelled import Labelled
from dpiqa.training.plan import Plan
from dpiqa.training.spoiled import Spoiled, prepare_copies
from dpiqa.training.statistics import as_maps, cached_statistics


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Crops of B pictures, then those of their 2K spoiled copies, cut at the same places."""

    images: torch.Tensor  #: (B + 2K, 3, s, s) in [0, 1]
    statistics: torch.Tensor | None  #: (B + 2K, C, s/CELL, s/CELL), where the network wants them
    crops: Crops  #: of the B pictures
    spoiled: Spoiled | None


class Shown:
    """The training pictures as batches. `align`: pixels that crops' corners are multiples of."""

    def __init__(self, data: Labelled, plan: Plan, loss: SpoiledLoss, cache: Path, *, align: int) -> None:
        self._data, self._plan, self._align = data, plan, align
        self._extent = data.pixels.shape[1]
        self._size = plan.crop or self._extent
        self._copies = prepare_copies(data.pixels, data.sha256, data.train, loss, cache)
        self._statistics = data.statistics
        wanted = self._copies is not None and data.statistics is not None
        self._copied_statistics = (
            cached_statistics(self._copies.pixels, self._copies.folder) if self._copies and wanted else None
        )

    def batch(self, rows: np.ndarray, rng: np.random.Generator, device: torch.device) -> Batch:
        """Cut random crops of the pictures `rows`."""
        crops = random_crops(rows, self._extent, self._size, self._align, rng, mirror=self._plan.mirror)
        spoiled = self._copies.among(rows) if self._copies is not None else None
        pixels = [crops.cut(self._data.pixels)]
        statistics = [] if self._statistics is None else [_cells(crops, self._statistics)]
        if self._copies is not None and spoiled is not None and len(spoiled.copies):
            copied = _copied(crops, spoiled)
            pixels.append(copied.cut(self._copies.pixels))
            if self._copied_statistics is not None:
                statistics.append(_cells(copied, self._copied_statistics))
        return Batch(
            images=as_images(np.concatenate(pixels), device),
            statistics=as_maps(np.concatenate(statistics), device) if statistics else None,
            crops=crops,
            spoiled=spoiled,
        )


def _cells(crops: Crops, statistics: np.ndarray) -> np.ndarray:
    """Cut statistics. A mirrored picture's diagonals should change places: they stay, a slight variation."""
    return crops.cut_own([statistics[row] for row in crops.index], CELL)


def _copied(crops: Crops, spoiled: Spoiled) -> Crops:
    """Return the crops of the copies: at the places of their originals."""
    places = np.tile(spoiled.places, 2)
    return replace(crops, index=spoiled.copies, top=crops.top[places], left=crops.left[places], flip=crops.flip[places])
