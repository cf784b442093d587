"""Scores and quality maps of another scorer for every training picture, kept on disk: each picture is scored once."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file

from dpiqa.models.scoring_network import view_corners
from dpiqa.models.torch_scorer import TorchScorer
from dpiqa.training.data.array_cache import cached_files
from dpiqa.training.data.crops import as_images


@dataclass(frozen=True, kw_only=True)
class TeacherOutputs:
    """A scorer's outputs for the pictures of a data set."""

    files: Sequence[Path]  #: of every row, whether it was scored or not
    scores: np.ndarray  #: (N,) float32, NaN for rows that were not scored
    power: float  #: mean square of the maps: puts their error on the scale of the other losses

    def maps(self, rows: np.ndarray) -> list[np.ndarray]:
        """Return the quality maps of `rows`, (m, m, C) float16 each; read from disk, where the system caches them."""
        return [load_file(self.files[row])["map"] for row in rows]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one map: (m, m, C)."""
        first = int(np.flatnonzero(np.isfinite(self.scores))[0])
        shape: tuple[int, ...] = self.maps(np.array([first]))[0].shape
        return shape


def teacher_outputs(
    scorer: TorchScorer, pixels: np.ndarray, sha256: Sequence[str], rows: np.ndarray, cache: Path, *, batch: int = 8
) -> TeacherOutputs:
    """Return the scorer's outputs for `rows` of `pixels` (N, S, S, 3) uint8, computing only those not yet on disk.

    An output belongs to a scorer id and the sha256 of a picture's file: data sets and splits share it.
    """
    # "answers" is their name of earlier versions, whose files are still valid.
    folder = cache / "answers" / scorer.card.scorer_id.replace(":", "_")
    files = [folder / digest[:2] / f"{digest}.safetensors" for digest in sha256]

    def make(indices: list[int]) -> Iterator[Mapping[str, np.ndarray]]:
        scores, maps = score_with_maps(scorer, pixels[rows[indices]])
        for score, quality in zip(scores, maps, strict=True):
            yield {
                "score": np.array(score, dtype=np.float32),
                "map": np.ascontiguousarray(quality, dtype=np.float16),
            }

    label = f"outputs of {scorer.card.name}"
    cached_files([files[row] for row in rows], make, folder=folder, label=label, block=batch)
    scores = np.full(len(files), np.nan, dtype=np.float32)
    powers = []
    for row in rows:
        output = load_file(files[row])
        scores[row] = output["score"]
        powers.append(np.square(output["map"], dtype=np.float32).mean())
    return TeacherOutputs(files=files, scores=scores, power=float(np.mean(powers)))


@torch.inference_mode()
def score_with_maps(scorer: TorchScorer, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(B, S, S, 3) uint8 -> scores (B,), quality maps (B, m, m, C) float32, computed as in production.

    A scorer that looks at views sees each of them alone; where views overlap, their maps are averaged.
    """
    parameter = next(scorer.network.parameters())
    images = as_images(pixels, parameter.device).to(parameter.dtype)
    network = scorer.network.scoring(pixels)
    scores, quality = _from_views(network, images, scorer.network.view_size or images.shape[-1])
    return scores.float().cpu().numpy(), quality.permute(0, 2, 3, 1).float().cpu().numpy()


def _from_views(
    network: Callable[..., tuple[torch.Tensor, ...]], images: torch.Tensor, view: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean of the views' scores (B,), and their maps put together (B, C, m, m)."""
    extent = images.shape[-1]
    if view >= extent:
        scores, quality = network(images)
        return scores, quality
    view_scores: list[torch.Tensor] = []
    total = count = images.new_zeros(())
    for top, left in product(view_corners(extent, view), repeat=2):
        score, quality = network(images[:, :, top : top + view, left : left + view])
        cells = quality.shape[-1]
        cell = view // cells
        if not view_scores:
            total = quality.new_zeros(*quality.shape[:2], extent // cell, extent // cell)
            count = torch.zeros_like(total[:1, :1])
        rows, columns = (slice(start // cell, start // cell + cells) for start in (top, left))
        total[:, :, rows, columns] += quality
        count[:, :, rows, columns] += 1
        view_scores.append(score)
    return torch.stack(view_scores).mean(dim=0), total / count
