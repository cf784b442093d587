"""Batches of training pictures: crops, the distorted copies of some pictures cut alike, and their scene statistics."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from dpiqa.models.scene_statistics import CELL
from dpiqa.training.config.kinds import DistortedLoss
from dpiqa.training.config.run import Plan
from dpiqa.training.data.crops import Crops, as_images, random_crops
from dpiqa.training.data.distorted import BatchCopies, distorted_copies
from dpiqa.training.data.features import as_maps, cached_statistics
from dpiqa.training.data.labelled import Labelled


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkInput:
    """Crops as tensors."""

    images: torch.Tensor  #: (B, 3, s, s) in [0, 1]
    statistics: torch.Tensor | None  #: (B, C, s/CELL, s/CELL), where the network uses them

    @property
    def keywords(self) -> dict[str, torch.Tensor]:
        """Return the arguments of the network's forward besides the images."""
        return {} if self.statistics is None else {"statistics": self.statistics}


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Crops of B pictures, and of the 2K distorted copies of some of them, cut at the same corners."""

    pictures: NetworkInput
    crops: Crops  #: of the B pictures
    copies: BatchCopies | None = None  #: None where no picture of the batch has copies
    #: (3K, ...): the originals of these copies, then the weaker ones, then the stronger
    ordered: NetworkInput | None = None


class BatchSource:
    """Makes batches of the training pictures. `align`: pixels that crops' corners are multiples of."""

    def __init__(self, data: Labelled, plan: Plan, loss: DistortedLoss, cache: Path, *, align: int) -> None:
        self._data, self._plan, self._align = data, plan, align
        self._size = plan.crop or data.extent
        self._copies = distorted_copies(data.pixels, data.sha256, data.train, loss, cache)
        self._copied_statistics: np.ndarray | None = None
        if self._copies is not None and data.statistics is not None:
            self._copied_statistics = cached_statistics(self._copies.pixels, self._copies.folder)

    def batch(self, rows: np.ndarray, rng: np.random.Generator, device: torch.device) -> Batch:
        """Cut random crops of the pictures `rows`."""
        data = self._data
        crops = random_crops(rows, data.extent, self._size, self._align, rng, mirror=self._plan.mirror)
        pictures = _network_input(crops, data.pixels, data.statistics, device)
        copies = self._copies.of_batch(rows) if self._copies is not None else None
        if self._copies is None or copies is None or not len(copies.copies):
            return Batch(pictures=pictures, crops=crops)
        twice = np.tile(copies.positions, 2)
        alike = replace(
            crops, index=copies.copies, top=crops.top[twice], left=crops.left[twice], flip=crops.flip[twice]
        )
        distorted = _network_input(alike, self._copies.pixels, self._copied_statistics, device)
        return Batch(
            pictures=pictures, crops=crops, copies=copies, ordered=_joined(pictures, copies.positions, distorted)
        )


def _network_input(
    crops: Crops, pixels: np.ndarray, statistics: np.ndarray | None, device: torch.device
) -> NetworkInput:
    maps = None
    if statistics is not None:
        # A mirrored picture's diagonals should change places: they stay, which is a slight variation.
        maps = as_maps(crops.cut_maps([statistics[row] for row in crops.index], CELL), device)
    return NetworkInput(images=as_images(crops.cut(pixels), device), statistics=maps)


def _joined(pictures: NetworkInput, positions: np.ndarray, distorted: NetworkInput) -> NetworkInput:
    """Return the pictures at `positions` again, followed by their copies."""
    index = torch.from_numpy(positions).to(pictures.images.device)
    statistics = None
    if pictures.statistics is not None and distorted.statistics is not None:
        statistics = torch.cat([pictures.statistics[index], distorted.statistics])
    return NetworkInput(images=torch.cat([pictures.images[index], distorted.images]), statistics=statistics)
