"""Validation of networks while they are trained: scores of whole pictures, and their agreement with the labels."""

from typing import cast

import numpy as np
import torch
from torch import nn

from dpiqa.evaluation.agreement import plcc, rmse, srcc
from dpiqa.models.scoring_network import ScoringNetwork, score_in_views
from dpiqa.training.config.precision import Arithmetic, autocast
from dpiqa.training.data.batches import whole_pictures
from dpiqa.training.data.crops import as_images
from dpiqa.training.data.labelled import Labelled
from dpiqa.training.loop.task import Validation


def predict(
    network: nn.Module, data: Labelled, rows: np.ndarray, precision: Arithmetic, *, batch: int = 16
) -> np.ndarray:
    """Score whole pictures as their scorer will, but in the run's precision -> (len(rows),) float64."""
    scoring = cast("ScoringNetwork", network)
    device = next(network.parameters()).device

    def scores(block: np.ndarray) -> np.ndarray:
        pixels = data.pixels[block]
        if scoring.view_size is not None:
            images = as_images(pixels, device)
            return score_in_views(scoring.scoring(pixels), images, scoring.view_size).double().cpu().numpy()
        call, ways = scoring.seeded(pixels), (False, True) if scoring.mirrored else (False,)
        inputs = [whole_pictures(data, block, device, mirrored=way) for way in ways]
        parts = [call(way.images, **way.keywords)[0].double() for way in inputs]
        return torch.stack(parts).mean(dim=0).cpu().numpy()

    with torch.inference_mode(), autocast(device, precision):
        return np.concatenate([scores(rows[start : start + batch]) for start in range(0, len(rows), batch)])


def agreement(scores: np.ndarray, labels: np.ndarray) -> Validation:
    """Return SRCC (which decides), PLCC and RMSE; all are NaN where a score is not finite."""
    if not np.isfinite(scores).all():
        return Validation(merit=float("nan"), figures=dict.fromkeys(("srcc", "plcc", "rmse"), float("nan")))
    figures = {"srcc": srcc(scores, labels), "plcc": plcc(scores, labels), "rmse": rmse(scores, labels)}
    return Validation(merit=figures["srcc"], figures=figures)
