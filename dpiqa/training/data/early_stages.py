"""Outputs of a backbone's first stages, which do not learn: computed once for every picture and its mirror image."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dpiqa.models.stage_student import GRID, EarlyStages, StageStudent
from dpiqa.training.config.precision import Arithmetic, autocast
from dpiqa.training.data.array_cache import cached_rows
from dpiqa.training.data.crops import Crops, as_images

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
        per_cell, side = self.features.shape[2] // grid, crops.size // GRID
        features: list[np.ndarray] = []
        cells: list[np.ndarray] = []
        for row, top, left, flip in zip(crops.index, crops.top // GRID, crops.left // GRID, crops.flip, strict=True):
            start = grid - side - left if flip else left
            cells.append(self.cells[row, int(flip), top : top + side, start : start + side])
            rows, columns = (slice(corner * per_cell, (corner + side) * per_cell) for corner in (top, start))
            features.append(self.features[row, int(flip), rows, columns])
        return EarlyStages(self.stages, _maps(features, device), _maps(cells, device))


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
    file = folder / f"stages-{_key(network, stages, precision)}" / "stages.npy"
    array = cached_rows(file, (len(pixels), 2, sum(sizes)), np.float16, make, label="first stages of the backbone")
    features, cells = array[..., : sizes[0]], array[..., sizes[0] :]
    return CachedStages(
        stages=stages,
        features=features.reshape(len(pixels), 2, sides[0], sides[0], widths[0]),
        cells=cells.reshape(len(pixels), 2, sides[1], sides[1], widths[1]),
    )


def _key(network: StageStudent, stages: int, precision: Arithmetic) -> str:
    """Return the digest of all that the outputs depend on besides the pictures."""
    digest = hashlib.sha256(f"{_VERSION} {stages} {precision} {network.config.model_dump_json()}".encode())
    parts = ("conv_stem.", "bn1.", *(f"blocks.{stage}." for stage in range(stages)))
    for name, tensor in network.base_model.state_dict().items():
        if name.startswith(parts):
            digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _flat(maps: torch.Tensor) -> torch.Tensor:
    """(B, C, h, w) -> (B, h * w * C) float16, as it is stored."""
    return maps.permute(0, 2, 3, 1).flatten(1).to(torch.float16)


def _maps(arrays: list[np.ndarray], device: torch.device) -> torch.Tensor:
    """B arrays (h, w, C) float16 -> (B, C, h, w) float32 on the device, channels last."""
    return torch.from_numpy(np.stack(arrays)).to(device).float().permute(0, 3, 1, 2)
