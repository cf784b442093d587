"""Outputs of the parts of a network that do not learn: computed once for every picture and its mirror image.

Where the first stages of a student's backbone stay as they are, their output (`CachedStages`); where all of it does,
the moments that the regressor reads (`CachedMoments`); of a teacher that looks through a student, what its VAE and the
student's backbone make of the picture (`CachedTeacherParts`).
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dpiqa.models.stage_student import GRID, EarlyStages, StageStudent
from dpiqa.models.teacher import FrozenOutputs, StageTeacher
from dpiqa.training.config.precision import Arithmetic, autocast
from dpiqa.training.data.array_cache import cached_rows
from dpiqa.training.data.crops import Crops, as_images
from dpiqa.training.data.features import as_maps

_VERSION = 1  #: raise it when the values change
_BATCH = 4  #: pictures at once


@dataclass(frozen=True, kw_only=True)
class CachedStages:
    """`EarlyStages` of N pictures, both ways round, as float16 on disk."""

    stages: int  #: number of them
    features: np.ndarray  #: (N, 2, h, w, C): of each picture, and of its mirror image
    cells: np.ndarray  #: (N, 2, S/GRID, S/GRID, 2K)

    def cut(self, crops: Crops, device: torch.device) -> EarlyStages:
        """Return those of crops whose corners and sides are multiples of GRID; mirrored ones as if mirrored first.

        They differ from those of the cut pixels at the edges, where the convolutions see what lies beyond.
        """
        grid = self.cells.shape[2]
        per_cell, side = self.features.shape[2] / grid, crops.size // GRID
        features: list[np.ndarray] = []
        cells: list[np.ndarray] = []
        for row, top, left, flip in zip(crops.index, crops.top // GRID, crops.left // GRID, crops.flip, strict=True):
            start = grid - side - left if flip else left
            cells.append(self.cells[row, int(flip), top : top + side, start : start + side])
            rows, columns = (slice(round(c * per_cell), round((c + side) * per_cell)) for c in (top, start))
            features.append(self.features[row, int(flip), rows, columns])
        return EarlyStages(self.stages, _maps(features, device), _maps(cells, device))


@dataclass(frozen=True, kw_only=True)
class CachedMoments:
    """Moments of N whole pictures, both ways round."""

    moments: np.ndarray  #: (N, 2, W) float16 on disk: of each picture, and of its mirror image

    def cut(self, crops: Crops, device: torch.device) -> torch.Tensor:
        """Return those of whole pictures, (B, W) float32."""
        rows = np.stack([self.moments[row, int(flip)] for row, flip in zip(crops.index, crops.flip, strict=True)])
        return torch.from_numpy(rows).to(device).float()


@dataclass(frozen=True, kw_only=True)
class CachedTeacherParts:
    """`FrozenOutputs` of N whole pictures, both ways round."""

    values: np.ndarray  #: (N, 2, V) float16 on disk: moments, posterior and maps, each flat
    shapes: tuple[tuple[int, ...], ...]  #: of the moments, the posterior and each map, without the batch

    def cut(self, crops: Crops, device: torch.device) -> FrozenOutputs:
        """Return those of whole pictures, float32."""
        rows = np.stack([self.values[row, int(flip)] for row, flip in zip(crops.index, crops.flip, strict=True)])
        flat = torch.split(torch.from_numpy(rows).to(device).float(), [math.prod(s) for s in self.shapes], dim=1)
        parts = [part.reshape(-1, *shape) for part, shape in zip(flat, self.shapes, strict=True)]
        return FrozenOutputs(parts[0], parts[1], tuple(parts[2:]))


Frozen = CachedStages | CachedMoments | CachedTeacherParts
#: Computes what does not learn for pixels (N, S, S, 3) uint8, their statistics (None: not used), and their folder.
FrozenParts = Callable[[np.ndarray, np.ndarray | None, Path], Frozen]


def cached_stages(
    network: StageStudent, pixels: np.ndarray, folder: Path, stages: int, precision: Arithmetic
) -> CachedStages:
    """Return the outputs of the first `stages` stages for `pixels` (N, S, S, 3) uint8, to which `folder` belongs."""
    device = next(network.parameters()).device

    def run(images: torch.Tensor) -> EarlyStages:
        with torch.inference_mode(), autocast(device, precision):
            return network.early(images, stages)

    probe = run(as_images(pixels[:1], device))
    widths = (probe.features.shape[1], probe.cells.shape[1])
    sides = (probe.features.shape[-1], probe.cells.shape[-1])

    def make(rows: range) -> Iterator[np.ndarray]:
        for start in range(rows.start, rows.stop, _BATCH):
            images = as_images(pixels[start : min(start + _BATCH, rows.stop)], device)
            ways = [run(images), run(images.flip(-1))]
            packed = [torch.cat([_flat(way.features), _flat(way.cells)], dim=1) for way in ways]
            yield from torch.stack(packed, dim=1).cpu().numpy()

    sizes = [side * side * width for side, width in zip(sides, widths, strict=True)]
    parts = ("conv_stem.", "bn1.", *(f"blocks.{stage}." for stage in range(stages)))
    used = {name: tensor for name, tensor in network.base_model.state_dict().items() if name.startswith(parts)}
    file = folder / f"stages-{_digest(f'{stages} {precision} {_sizes(network)}', used)}" / "stages.npy"
    array = cached_rows(file, (len(pixels), 2, sum(sizes)), np.float16, make, label="first stages of the backbone")
    features, cells = array[..., : sizes[0]], array[..., sizes[0] :]
    return CachedStages(
        stages=stages,
        features=features.reshape(len(pixels), 2, sides[0], sides[0], widths[0]),
        cells=cells.reshape(len(pixels), 2, sides[1], sides[1], widths[1]),
    )


def cached_moments(
    network: StageStudent, pixels: np.ndarray, statistics: np.ndarray | None, folder: Path, precision: Arithmetic
) -> CachedMoments:
    """Return the moments of `pixels` (N, S, S, 3) uint8, to which `folder` belongs, by the network's present backbone.

    `statistics`: theirs, (N, m, m, C), for a network that reads them. A mirror image has its picture's.
    """
    device = next(network.parameters()).device

    def run(images: torch.Tensor, rows: slice) -> torch.Tensor:
        maps = as_maps(statistics[rows], device) if statistics is not None else None
        with torch.inference_mode(), autocast(device, precision):
            return network.moments(images, maps)

    def make(rows: range) -> Iterator[np.ndarray]:
        for start in range(rows.start, rows.stop, _BATCH):
            block = slice(start, min(start + _BATCH, rows.stop))
            images = as_images(pixels[block], device)
            both = torch.stack([run(images, block), run(images.flip(-1), block)], dim=1)
            yield from both.to(torch.float16).cpu().numpy()

    recipe = f"{precision} {statistics is not None} {_sizes(network)}"
    file = folder / f"moments-{_digest(recipe, network.base_model.state_dict())}" / "moments.npy"
    shape = (len(pixels), 2, network.width)
    return CachedMoments(moments=cached_rows(file, shape, np.float16, make, label="moments of the backbone"))


def cached_teacher_parts(
    network: StageTeacher, pixels: np.ndarray, statistics: np.ndarray | None, folder: Path, precision: Arithmetic
) -> CachedTeacherParts:
    """Return the outputs of all that does not learn for `pixels` (N, S, S, 3) uint8, to which `folder` belongs.

    `statistics`: as of `cached_moments`.
    """
    device = next(network.parameters()).device

    def run(images: torch.Tensor, rows: slice) -> list[torch.Tensor]:
        maps = as_maps(statistics[rows], device) if statistics is not None else None
        with torch.inference_mode(), autocast(device, precision):
            moments, posterior, pooled = network.frozen_outputs(images, maps)
        return [moments, posterior, *pooled]

    def make(rows: range) -> Iterator[np.ndarray]:
        for start in range(rows.start, rows.stop, _BATCH):
            block = slice(start, min(start + _BATCH, rows.stop))
            images = as_images(pixels[block], device)
            ways = [run(way, block) for way in (images, images.flip(-1))]
            packed = [torch.cat([part.flatten(1).to(torch.float16) for part in way], dim=1) for way in ways]
            yield from torch.stack(packed, dim=1).cpu().numpy()

    shapes = tuple(tuple(part.shape[1:]) for part in run(as_images(pixels[:1], device), slice(0, 1)))
    config = network.config
    recipe = f"{precision} {statistics is not None} {_sizes(network.student)}"
    recipe += f" {config.shrink} {config.vae.model_dump_json()}"
    tensors = network.student.base_model.state_dict() | network.vae.state_dict(prefix="vae.")
    file = folder / f"teacher-{_digest(recipe, tensors)}" / "teacher.npy"
    shape = (len(pixels), 2, sum(map(math.prod, shapes)))
    values = cached_rows(file, shape, np.float16, make, label="what does not learn of the teacher")
    return CachedTeacherParts(values=values, shapes=shapes)


def _sizes(network: StageStudent) -> str:
    """Return the sizes and the input of its backbone."""
    used = {"backbone", "backbone_args", "batchnorm_eps", "pixel_mean", "pixel_deviation"}
    return network.config.model_dump_json(include=used)


def _digest(recipe: str, tensors: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256(f"{_VERSION} {recipe}".encode())
    for name, tensor in tensors.items():
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _flat(maps: torch.Tensor) -> torch.Tensor:
    """(B, C, h, w) -> (B, h * w * C) float16, as it is stored."""
    return maps.permute(0, 2, 3, 1).flatten(1).to(torch.float16)


def _maps(arrays: list[np.ndarray], device: torch.device) -> torch.Tensor:
    """B arrays (h, w, C) float16 -> (B, C, h, w) float32 on the device, channels last."""
    return torch.from_numpy(np.stack(arrays)).to(device).float().permute(0, 3, 1, 2)
