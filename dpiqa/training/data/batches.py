"""Batches of training pictures: crops, the distorted copies of some pictures cut alike, and their scene statistics."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from dpiqa.models.scene_statistics import CELL
from dpiqa.models.stage_student import EarlyStages
from dpiqa.models.teacher import FrozenOutputs
from dpiqa.training.config.kinds import DistortedLoss
from dpiqa.training.config.run import Plan
from dpiqa.training.data.crops import Crops, as_images, random_crops
from dpiqa.training.data.distorted import BatchCopies, distorted_copies
from dpiqa.training.data.features import as_maps, cached_statistics
from dpiqa.training.data.frozen import CachedMoments, CachedTeacherParts, Frozen, FrozenParts
from dpiqa.training.data.labelled import Labelled


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkInput:
    """Crops as tensors."""

    images: torch.Tensor  #: (B, 3, s, s) in [0, 1]
    statistics: torch.Tensor | None  #: (B, C, s/CELL, s/CELL), where the network uses them
    early: EarlyStages | None = None  #: where the first stages of its backbone do not learn
    moments: torch.Tensor | None = None  #: (B, W), where nothing of its backbone does
    frozen: FrozenOutputs | None = None  #: of a teacher that looks through a student

    @property
    def keywords(self) -> dict[str, torch.Tensor | EarlyStages | FrozenOutputs]:
        """Return the arguments of the network's forward besides the images."""
        arguments = {
            "statistics": self.statistics,
            "early": self.early,
            "moments": self.moments,
            "frozen": self.frozen,
        }
        return {name: value for name, value in arguments.items() if value is not None}


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Crops of B pictures, and of the 2K distorted copies of some of them, cut at the same corners."""

    pictures: NetworkInput
    crops: Crops  #: of the B pictures
    copies: BatchCopies | None = None  #: None where no picture of the batch has copies
    #: (3K, ...): what these are copies of, then the weaker ones, then the stronger
    ordered: NetworkInput | None = None


class BatchSource:
    """Makes batches of the training pictures.

    `align`: pixels that crops' corners are multiples of. `frozen`: computes for copies what `data.frozen` has of the
    pictures.
    """

    def __init__(
        self,
        data: Labelled,
        plan: Plan,
        loss: DistortedLoss,
        cache: Path,
        *,
        align: int,
        frozen: FrozenParts | None = None,
    ) -> None:
        self._plan, self._align, self._extent = plan, align, data.extent
        self._size = plan.crop or data.extent
        self._pictures = _Pictures(pixels=data.pixels, statistics=data.statistics, frozen=data.frozen)
        self._copies = distorted_copies(data.pixels, data.sha256, data.train, loss, cache)
        if self._copies is not None:
            pixels, folder = self._copies.pixels, self._copies.folder
            statistics = None if data.statistics is None else cached_statistics(pixels, folder)
            known = None if frozen is None else frozen(pixels, statistics, folder)
            self._distorted = _Pictures(pixels=pixels, statistics=statistics, frozen=known)

    def batch(self, rows: np.ndarray, rng: np.random.Generator, device: torch.device) -> Batch:
        """Cut random crops of the pictures `rows`."""
        crops = random_crops(rows, self._extent, self._size, self._align, rng, mirror=self._plan.mirror)
        pictures = self._pictures.cut(crops, device)
        copies = self._copies.of_batch(rows) if self._copies is not None else None
        if copies is None or not len(copies.positions):
            return Batch(pictures=pictures, crops=crops)
        alike = replace(crops.at(np.tile(copies.positions, copies.each)), index=copies.copies)
        ordered = self._distorted.cut(alike, device)
        if copies.each == 2:
            ordered = _joined(self._pictures.cut(crops.at(copies.positions), device), ordered)
        return Batch(pictures=pictures, crops=crops, copies=copies, ordered=ordered)


def whole_pictures(data: Labelled, rows: np.ndarray, device: torch.device, *, mirrored: bool = False) -> NetworkInput:
    """Return whole pictures, or their mirror images, with what is known of them."""
    corner, flip = np.zeros(len(rows), dtype=int), np.full(len(rows), mirrored)
    crops = Crops(index=rows, top=corner, left=corner, flip=flip, size=data.extent)
    return _Pictures(pixels=data.pixels, statistics=data.statistics, frozen=data.frozen).cut(crops, device)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Pictures:
    """Whole pictures, and what is known of them."""

    pixels: np.ndarray  #: (N, S, S, 3) uint8
    statistics: np.ndarray | None
    frozen: Frozen | None

    def cut(self, crops: Crops, device: torch.device) -> NetworkInput:
        """Cut crops of them. Nothing is cut that the network does not look at."""
        nothing = torch.empty(len(crops.index), 3, 0, 0, device=device)
        if isinstance(self.frozen, CachedMoments):
            return NetworkInput(images=nothing, statistics=None, moments=self.frozen.cut(crops, device))
        if isinstance(self.frozen, CachedTeacherParts):
            return NetworkInput(images=nothing, statistics=None, frozen=self.frozen.cut(crops, device))
        maps = None
        if self.statistics is not None:
            # A mirrored picture's diagonals should change places: they stay, which is a slight variation.
            maps = as_maps(crops.cut_maps([self.statistics[row] for row in crops.index], CELL), device)
        if self.frozen is not None:
            return NetworkInput(images=nothing, statistics=maps, early=self.frozen.cut(crops, device))
        return NetworkInput(images=as_images(crops.cut(self.pixels), device), statistics=maps)


def _joined(first: NetworkInput, second: NetworkInput) -> NetworkInput:
    """Return the pictures of one input followed by those of another of the same parts."""
    early = None
    if first.early is not None and second.early is not None:
        features = torch.cat([first.early.features, second.early.features])
        early = EarlyStages(first.early.stages, features, torch.cat([first.early.cells, second.early.cells]))
    frozen = None
    if first.frozen is not None and second.frozen is not None:
        maps = tuple(map(torch.cat, zip(first.frozen.maps, second.frozen.maps, strict=True)))
        moments = torch.cat([first.frozen.moments, second.frozen.moments])
        frozen = FrozenOutputs(moments, torch.cat([first.frozen.posterior, second.frozen.posterior]), maps)
    return NetworkInput(
        images=torch.cat([first.images, second.images]),
        statistics=_both(first.statistics, second.statistics),
        early=early,
        moments=_both(first.moments, second.moments),
        frozen=frozen,
    )


def _both(first: torch.Tensor | None, second: torch.Tensor | None) -> torch.Tensor | None:
    return None if first is None or second is None else torch.cat([first, second])
