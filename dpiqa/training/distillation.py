"""One network learns another's quality map and score."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from dpiqa.training.dataset import Crops
from dpiqa.training.labelled import as_images

#: Pixels per cell of a student's map before it is resized, and of a bundled map: crops lie on this grid, so that maps
#: can be cut where their pixels are cut.
CELL = 16


@dataclass(frozen=True, kw_only=True)
class TeacherAnswers:
    """What the teacher said to every picture: what another network is distilled from."""

    maps: np.ndarray  #: (N, S/16, S/16, C) float16, the quality map
    scores: np.ndarray  #: (N,)

    @property
    def power(self) -> float:
        """Mean square of the maps: puts their error on the scale of the other losses."""
        return float(np.square(self.maps[self.scores != 0][:256].astype(np.float32)).mean())


def distillation_loss(
    scores: torch.Tensor, maps: torch.Tensor, teacher: TeacherAnswers, crops: Crops, spread: float, power: float
) -> torch.Tensor:
    """Add up the squared errors against the teacher's map, cut where the crop was cut, and its score."""
    wanted = torch.from_numpy(crops.cut(teacher.maps, CELL)).float().permute(0, 3, 1, 2)
    wanted_scores = torch.from_numpy(teacher.scores[crops.index]).float()
    return F.mse_loss(maps, wanted) / power + F.mse_loss(scores / spread, wanted_scores / spread)


def collect_answers(network: nn.Module, pixels: np.ndarray, rows: np.ndarray, batch: int = 8) -> TeacherAnswers:
    """Ask `network` about `rows` of `pixels` (N, S, S, 3) uint8; the other rows of the answers stay zero."""
    maps, scores = None, np.zeros(len(pixels), dtype=np.float32)
    network.eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for start in range(0, len(rows), batch):
            chunk = rows[start : start + batch]
            score, quality = network(as_images(pixels[chunk]))
            cells = quality.permute(0, 2, 3, 1).half().numpy()
            maps = np.zeros((len(pixels), *cells.shape[1:]), dtype=np.float16) if maps is None else maps
            maps[chunk], scores[chunk] = cells, score.float().numpy()
    if maps is None:
        raise ValueError("no rows to ask about")
    return TeacherAnswers(maps=maps, scores=scores)
