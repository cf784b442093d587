"""Batches of training pictures: crops, the distorted copies of some pictures cut alike, and their scene statistics."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from dpiqa.models.scene_statistics import CELL
from dpiqa.models.stage_student import EarlyStages
from dpiqa.training.config.kinds import DistortedLoss
from dpiqa.training.config.run import Plan
from dpiqa.training.data.crops import Crops, as_images, random_crops
from dpiqa.training.data.distorted import BatchCopies, distorted_copies
from dpiqa.training.data.early_stages import CachedStages
from dpiqa.training.data.features import as_maps, cached_statistics
from dpiqa.training.data.labelled import Labelled


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkInput:
    """Crops as tensors."""

    images: torch.Tensor  #: (B, 3, s, s) in [0, 1]
    statistics: torch.Tensor | None  #: (B, C, s/CELL, s/CELL), where the network uses them
    early: EarlyStages | None = None  #: where the first stages of its backbone do not learn

    @property
    def keywords(self) -> dict[str, torch.Tensor | EarlyStages]:
        """Return the arguments of the network's forward besides the images."""
        arguments = {"statistics": self.statistics, "early": self.early}
        return {name: value for name, value in arguments.items() if value is not None}


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Crops of B pictures, and of the 2K distorted copies of some of them, cut at the same corners."""

    pictures: NetworkInput
    crops: Crops  #: of the B pictures
    copies: BatchCopies | None = None  #: None where no picture of the batch has copies
    #: (3K, ...): the originals of these copies, then the weaker ones, then the stronger
    ordered: NetworkInput | None = None


class BatchSource:
    """Makes batches of the training pictures.

    `align`: pixels that crops' corners are multiples of. `early`: computes the first stages' outputs for pixels
    (N, S, S, 3) and their folder, for a network whose first stages do not learn; `data` has its own already.
    """

    def __init__(
        self,
        data: Labelled,
        plan: Plan,
        loss: DistortedLoss,
        cache: Path,
        *,
        align: int,
        early: Callable[[np.ndarray, Path], CachedStages] | None = None,
    ) -> None:
        self._plan, self._align, self._extent = plan, align, data.extent
        self._size = plan.crop or data.extent
        self._pictures = _Pictures(pixels=data.pixels, statistics=data.statistics, early=data.early)
        self._copies = distorted_copies(data.pixels, data.sha256, data.train, loss, cache)
        if self._copies is not None:
            pixels, folder = self._copies.pixels, self._copies.folder
            self._distorted = _Pictures(
                pixels=pixels,
                statistics=None if data.statistics is None else cached_statistics(pixels, folder),
                early=None if early is None else early(pixels, folder),
            )

    def batch(self, rows: np.ndarray, rng: np.random.Generator, device: torch.device) -> Batch:
        """Cut random crops of the pictures `rows`."""
        crops = random_crops(rows, self._extent, self._size, self._align, rng, mirror=self._plan.mirror)
        pictures = self._pictures.cut(crops, device)
        copies = self._copies.of_batch(rows) if self._copies is not None else None
        if copies is None or not len(copies.copies):
            return Batch(pictures=pictures, crops=crops)
        originals = crops.at(copies.positions)
        alike = replace(crops.at(np.tile(copies.positions, 2)), index=copies.copies)
        ordered = _joined(self._pictures.cut(originals, device), self._distorted.cut(alike, device))
        return Batch(pictures=pictures, crops=crops, copies=copies, ordered=ordered)


def whole_pictures(data: Labelled, rows: np.ndarray, device: torch.device) -> NetworkInput:
    """Return whole pictures, with what is known of them."""
    corner, upright = np.zeros(len(rows), dtype=int), np.zeros(len(rows), dtype=bool)
    crops = Crops(index=rows, top=corner, left=corner, flip=upright, size=data.extent)
    return _Pictures(pixels=data.pixels, statistics=data.statistics, early=data.early).cut(crops, device)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Pictures:
    """Whole pictures, and what is known of them."""

    pixels: np.ndarray  #: (N, S, S, 3) uint8
    statistics: np.ndarray | None
    early: CachedStages | None

    def cut(self, crops: Crops, device: torch.device) -> NetworkInput:
        """Cut crops of them. No pixels are cut where the network needs none."""
        maps = None
        if self.statistics is not None:
            # A mirrored picture's diagonals should change places: they stay, which is a slight variation.
            maps = as_maps(crops.cut_maps([self.statistics[row] for row in crops.index], CELL), device)
        if self.early is not None:
            nothing = torch.empty(len(crops.index), 3, 0, 0, device=device)
            return NetworkInput(images=nothing, statistics=maps, early=self.early.cut(crops, device))
        return NetworkInput(images=as_images(crops.cut(self.pixels), device), statistics=maps)


def _joined(first: NetworkInput, second: NetworkInput) -> NetworkInput:
    """Return the pictures of one input followed by those of another of the same parts."""
    statistics = early = None
    if first.statistics is not None and second.statistics is not None:
        statistics = torch.cat([first.statistics, second.statistics])
    if first.early is not None and second.early is not None:
        features = torch.cat([first.early.features, second.early.features])
        early = EarlyStages(first.early.stages, features, torch.cat([first.early.cells, second.early.cells]))
    return NetworkInput(images=torch.cat([first.images, second.images]), statistics=statistics, early=early)
