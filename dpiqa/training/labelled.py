"""Pixels with labels, and how well a network does on them while it is trained."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import structlog
import torch
from torch import nn

from dpiqa.datasets.spec import LabelledImage
from dpiqa.errors import InvalidRequest
from dpiqa.evaluation.correlation import plcc, rmse, srcc
from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.models.views import score_in_views
from dpiqa.training.config import DataConfig
from dpiqa.training.crops import as_images, seeing
from dpiqa.training.pixels import PixelCache, prepare_pixels
from dpiqa.training.plan import Arithmetic
from dpiqa.training.statistics import as_maps, cached_statistics
from dpiqa.training.task import Validation

log = structlog.get_logger()
_DTYPES = {Arithmetic.BFLOAT16: torch.bfloat16, Arithmetic.FLOAT16: torch.float16}


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """All pictures of the data sets, (N, S, S, 3) uint8, and their labels."""

    pixels: np.ndarray
    labels: np.ndarray  #: (N,) MOS, 0-1
    train: np.ndarray  #: row numbers learned from
    val: np.ndarray  #: row numbers that choose the best checkpoint
    sha256: tuple[str, ...]  #: of each picture's file
    images: tuple[LabelledImage, ...]
    folder: Path  #: of the pixels in the cache
    statistics: np.ndarray | None = None  #: (N, m, m, C) float16, for networks that want them: see `with_statistics`

    def with_statistics(self) -> "Labelled":
        """Return the same with the scene statistics of all pictures, which are computed unless they are cached."""
        return replace(self, statistics=cached_statistics(self.pixels, self.folder))

    @property
    def extent(self) -> int:
        """Pixels a side."""
        return int(self.pixels.shape[1])

    @property
    def centre(self) -> float:
        """Mean of the training labels."""
        return float(self.labels[self.train].mean())

    @property
    def spread(self) -> float:
        """Standard deviation of the training labels."""
        return float(self.labels[self.train].std())

    @property
    def digest(self) -> str:
        """SHA-256 over which files have which labels on which side: two runs with the same learned from the same."""
        sides = [(row, "train") for row in self.train] + [(row, "select") for row in self.val]
        lines = sorted(f"{self.sha256[row]} {self.labels[row]:.6f} {side}" for row, side in sides)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def chosen(self) -> list[LabelledImage]:
        """Images that the best checkpoint is chosen on."""
        return [self.images[row] for row in self.val]


def load_labelled(images: Sequence[LabelledImage], preprocessing: Preprocessing, config: DataConfig) -> Labelled:
    """Load the pixels of all images through the cache. Raises `InvalidRequest` if a side is empty or a file is bad."""
    wanted = [image for image in images if image.split in {"train", config.select_on}]
    cached = prepare_pixels([image.path for image in wanted], preprocessing, config.cache)
    good = _good_rows(wanted, cached, skip=config.unreadable == "skip")
    splits = np.array([image.split for image in wanted])
    train, val = (good[splits[good] == split] for split in ("train", config.select_on))
    if min(len(train), len(val)) < 2:
        raise InvalidRequest(
            f"the data has {len(train)} images to train on and {len(val)} of split {config.select_on!r} to choose on",
            hint="it needs both: see data.select_on, and the split column of a CSV",
        )
    labels = np.array([image.mos for image in wanted])
    if not labels[train].std() > 0:
        raise InvalidRequest("all training images have the same label", hint="there is nothing to learn from it")
    return Labelled(
        pixels=cached.pixels,
        labels=labels,
        train=train,
        val=val,
        sha256=cached.sha256,
        images=tuple(wanted),
        folder=cached.folder,
    )


def _good_rows(images: Sequence[LabelledImage], cached: PixelCache, *, skip: bool) -> np.ndarray:
    for row, reason in cached.rejected.items():
        log.warning("training_image_rejected", path=str(images[row].path), reason=reason)
        if not skip:
            raise InvalidRequest(
                f"{images[row].path} cannot be decoded ({reason}); {len(cached.rejected)} such in all",
                hint='restore it, or set data.unreadable = "skip"',
            )
    return np.setdiff1d(np.arange(len(images)), list(cached.rejected))


def predict(
    network: nn.Module, data: Labelled, rows: np.ndarray, precision: Arithmetic, *, batch: int = 16
) -> np.ndarray:
    """Score whole pictures as their scorer will, but in the run's precision -> (len(rows),) float64."""
    config: Any = network.config
    device, dtype = next(network.parameters()).device, _DTYPES.get(precision)

    def scores(some: np.ndarray) -> np.ndarray:
        pixels = data.pixels[some]
        call = seeing(network, pixels)
        if data.statistics is not None and config.view_size is None:
            call = partial(call, statistics=as_maps(data.statistics[some], device))
        return score_in_views(call, as_images(pixels, device), config.view_size).double().cpu().numpy()

    with torch.inference_mode(), torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None):
        return np.concatenate([scores(rows[start : start + batch]) for start in range(0, len(rows), batch)])


def validate(network: nn.Module, data: Labelled, precision: Arithmetic, most: int | None = None) -> Validation:
    """Measure the agreement on the validation rows, at most so many of them, evenly spread."""
    rows = evenly(data.val, most)
    return judged(predict(network, data, rows, precision), data.labels[rows])


def evenly(rows: np.ndarray, most: int | None) -> np.ndarray:
    """Return at most so many rows, evenly spread."""
    count = min(most or len(rows), len(rows))
    chosen: np.ndarray = rows[np.linspace(0, len(rows) - 1, count).round().astype(int)]
    return chosen


def judged(scores: np.ndarray, labels: np.ndarray) -> Validation:
    """Return SRCC (which decides), PLCC and RMSE; not defined where a score is no number."""
    if not np.isfinite(scores).all():
        return Validation(merit=float("nan"), figures=dict.fromkeys(("srcc", "plcc", "rmse"), float("nan")))
    figures = {"srcc": srcc(scores, labels), "plcc": plcc(scores, labels), "rmse": rmse(scores, labels)}
    return Validation(merit=figures["srcc"], figures=figures)
