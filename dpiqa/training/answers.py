"""What a scorer says to every picture (score and quality map), kept on disk: a student's teacher is asked only once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from dpiqa.files import locked_folder, replace_file
from dpiqa.models.torch_scorer import TorchScorer
from dpiqa.models.views import view_corners
from dpiqa.training.crops import as_images, seeing
from dpiqa.training.preparing import blocks


@dataclass(frozen=True, kw_only=True)
class Answers:
    """A scorer's answers to the pictures of a data set."""

    files: Sequence[Path]  #: of every row, whether it was asked about or not
    scores: np.ndarray  #: (N,) float32, NaN for rows not asked about
    power: float  #: mean square of the maps: puts their error on the scale of the other losses

    def maps(self, rows: np.ndarray) -> list[np.ndarray]:
        """Return the quality maps of `rows`, (m, m, C) float16 each; read when needed, the system's cache is quick."""
        return [load_file(self.files[row])["map"] for row in rows]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one map: (m, m, C)."""
        first = int(np.flatnonzero(np.isfinite(self.scores))[0])
        shape: tuple[int, ...] = self.maps(np.array([first]))[0].shape
        return shape


def collect_answers(
    scorer: TorchScorer, pixels: np.ndarray, sha256: Sequence[str], rows: np.ndarray, cache: Path, *, batch: int = 8
) -> Answers:
    """Return the scorer's answers to `rows` of `pixels` (N, S, S, 3) uint8, asking only for those not kept yet.

    An answer belongs to a scorer id and the sha256 of a picture's file: it outlives data sets, splits and processes.
    """
    folder = cache / "answers" / scorer.card.scorer_id.replace(":", "_")
    files = [folder / sha[:2] / f"{sha}.safetensors" for sha in sha256]
    with locked_folder(folder):
        _ask_missing(scorer, pixels, files, rows, batch)
    answers = np.full(len(files), np.nan, dtype=np.float32)
    powers = []
    for row in rows:
        found = load_file(files[row])
        answers[row] = found["score"]
        powers.append(np.square(found["map"], dtype=np.float32).mean())
    return Answers(files=files, scores=answers, power=float(np.mean(powers)))


def _ask_missing(scorer: TorchScorer, pixels: np.ndarray, files: Sequence[Path], rows: np.ndarray, batch: int) -> None:
    missing = [row for row in rows if not files[row].exists()]
    for some in blocks(f"answers of {scorer.card.name}", 0, len(missing), batch):
        chunk = [missing[place] for place in some]
        scores, maps = ask(scorer, pixels[chunk])
        for row, score, quality in zip(chunk, scores, maps, strict=True):
            _keep(files[row], score, quality)


@torch.inference_mode()
def ask(scorer: TorchScorer, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(B, S, S, 3) uint8 -> scores (B,), quality maps (B, m, m, C) float32, seen as production sees pictures.

    A scorer that looks at views sees each of them alone; where views overlap, their maps are averaged.
    """
    parameter = next(scorer.network.parameters())
    images = as_images(pixels, parameter.device).to(parameter.dtype)
    config: Any = scorer.network.config
    scores, quality = _whole(seeing(scorer.network, pixels), images, config.view_size or images.shape[-1])
    return scores.float().cpu().numpy(), quality.permute(0, 2, 3, 1).float().cpu().numpy()


def _whole(
    network: Callable[..., tuple[torch.Tensor, ...]], images: torch.Tensor, view: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean of the views' scores, and their maps put together."""
    extent = images.shape[-1]
    if view >= extent:
        scores, quality = network(images)
        return scores, quality
    parts: list[torch.Tensor] = []
    total = seen = images.new_zeros(())
    for top, left in product(view_corners(extent, view), repeat=2):
        score, quality = network(images[:, :, top : top + view, left : left + view])
        cells = quality.shape[-1]
        cell = view // cells
        if not parts:
            total = quality.new_zeros(*quality.shape[:2], extent // cell, extent // cell)
            seen = torch.zeros_like(total[:1, :1])
        rows, columns = (slice(start // cell, start // cell + cells) for start in (top, left))
        total[:, :, rows, columns] += quality
        seen[:, :, rows, columns] += 1
        parts.append(score)
    return torch.stack(parts).mean(dim=0), total / seen


def _keep(file: Path, score: float, quality: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, np.ndarray] = {
        "score": np.array(score, dtype=np.float32),
        "map": np.ascontiguousarray(quality, dtype=np.float16),
    }
    replace_file(file, lambda partial: save_file(tensors, partial))
