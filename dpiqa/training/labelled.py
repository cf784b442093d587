"""Pixels with labels, and how well a network does on them while it is trained."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import nn

from dpiqa.errors import InvalidRequest
from dpiqa.evaluation.correlation import agreement
from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.models.student import StudentConfig
from dpiqa.models.teacher import TeacherConfig
from dpiqa.models.views import score_in_views
from dpiqa.training.dataset import load_pixels, read_labels


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """All pictures of a data set, (N, S, S, 3) uint8, and their labels."""

    pixels: np.ndarray
    labels: np.ndarray  #: (N,) MOS, 0-1
    train: np.ndarray  #: row numbers learned from
    val: np.ndarray  #: row numbers that choose the best epoch

    @property
    def centre(self) -> float:
        """Mean of the training labels."""
        return float(self.labels[self.train].mean())

    @property
    def spread(self) -> float:
        """Standard deviation of the training labels: the unit of the losses."""
        return float(self.labels[self.train].std())


def load_labelled(csv_path: Path, preprocessing: Preprocessing, cache: Path) -> Labelled:
    """Load everything the labels file names, its pixels cached below `cache`."""
    images = read_labels(csv_path)
    splits = np.array([image.split for image in images])
    train, val = np.flatnonzero(splits == "train"), np.flatnonzero(splits == "val")
    if min(len(train), len(val)) < 2:
        raise InvalidRequest(f"{csv_path} has {len(train)} train and {len(val)} val rows", cure="it needs both")
    labels = np.array([image.mos for image in images])
    return Labelled(pixels=load_pixels(images, preprocessing, cache), labels=labels, train=train, val=val)


def as_images(pixels: np.ndarray) -> torch.Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32 in [0, 1], channels last."""
    return torch.from_numpy(np.require(pixels, requirements=["C", "W"])).permute(0, 3, 1, 2).float() / 255


def predict(model: nn.Module, pixels: np.ndarray, rows: np.ndarray, batch: int = 16) -> np.ndarray:
    """Score whole pictures as their scorer will, but in bf16 -> (len(rows),)."""
    view_size = cast("StudentConfig | TeacherConfig", model.config).view_size
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        batches = (as_images(pixels[rows[i : i + batch]]) for i in range(0, len(rows), batch))
        parts = [score_in_views(model, images, view_size).float().numpy() for images in batches]
    return np.concatenate(parts)


def validate(model: nn.Module, data: Labelled) -> dict[str, float]:
    """Measure the agreement on the validation rows."""
    figures = agreement(predict(model, data.pixels, data.val), data.labels[data.val])
    return {"srcc": figures.srcc, "plcc": figures.plcc, "rmse": figures.rmse}
