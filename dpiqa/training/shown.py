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
class View:
    """Crops as a network takes them."""

    images: torch.Tensor  #: (B, 3, s, s) in [0, 1]
    statistics: torch.Tensor | None  #: (B, C, s/CELL, s/CELL), where the network wants them


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Crops of B pictures, and of the 2K spoiled copies of some of them, cut at the same places."""

    own: View
    crops: Crops  #: of the B pictures
    spoiled: Spoiled | None = None  #: None where no picture of the batch has copies
    ordered: View | None = None  #: (3K, ...): the originals of these copies, then the weaker ones, then the stronger


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
        own = _view(crops, self._data.pixels, self._statistics, device)
        spoiled = self._copies.among(rows) if self._copies is not None else None
        if self._copies is None or spoiled is None or not len(spoiled.copies):
            return Batch(own=own, crops=crops)
        copies = _view(_copied(crops, spoiled), self._copies.pixels, self._copied_statistics, device)
        return Batch(own=own, crops=crops, spoiled=spoiled, ordered=_joined(own, spoiled.places, copies))


def _view(crops: Crops, pixels: np.ndarray, statistics: np.ndarray | None, device: torch.device) -> View:
    cells = None if statistics is None else as_maps(_cells(crops, statistics), device)
    return View(images=as_images(crops.cut(pixels), device), statistics=cells)


def _cells(crops: Crops, statistics: np.ndarray) -> np.ndarray:
    """Cut statistics. A mirrored picture's diagonals should change places: they stay, a slight variation."""
    return crops.cut_own([statistics[row] for row in crops.index], CELL)


def _copied(crops: Crops, spoiled: Spoiled) -> Crops:
    """Return the crops of the copies: at the places of their originals."""
    places = np.tile(spoiled.places, 2)
    return replace(crops, index=spoiled.copies, top=crops.top[places], left=crops.left[places], flip=crops.flip[places])


def _joined(own: View, places: np.ndarray, copies: View) -> View:
    """Return the pictures at `places` again, followed by the copies."""
    chosen = torch.from_numpy(places).to(own.images.device)
    statistics = None
    if own.statistics is not None and copies.statistics is not None:
        statistics = torch.cat([own.statistics[chosen], copies.statistics])
    return View(images=torch.cat([own.images[chosen], copies.images]), statistics=statistics)
