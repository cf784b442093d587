"""The student: a CNN trained on the labels, and on the teacher's feature map and score where there is a teacher."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from dpiqa.errors import InvalidRequest
from dpiqa.models.regressor import Pooling
from dpiqa.models.statistics import CELL
from dpiqa.models.student import Student, StudentConfig
from dpiqa.training.answers import Answers
from dpiqa.training.config import Begin, ScoreLoss, StudentRun, Unit
from dpiqa.training.crops import Crops
from dpiqa.training.heads import begin_as_pooling, begin_at
from dpiqa.training.labelled import Labelled, validate
from dpiqa.training.losses import ranking_loss
from dpiqa.training.norms import LastBatch
from dpiqa.training.shown import Shown
from dpiqa.training.spoiled import order_term
from dpiqa.training.task import Validation, shuffled_batches

#: Pixels per cell of a student's map before it is resized: stride 32, and a transposed convolution.
STRIDE = 16


class StudentTask:
    """See `dpiqa.training.task.Task`. `network` comes with its first weights; `answers` are its teacher's."""

    def __init__(self, network: Student, data: Labelled, config: StudentRun, answers: Answers | None = None) -> None:
        sizes = network.config
        if sizes.statistics_channels and data.statistics is None:
            data = data.with_statistics()
        self.network, self.data, self.config, self._answers = network, data, config, answers
        self._cell = sizes.input_size // sizes.map_size
        align = math.lcm(STRIDE * sizes.shrink, self._cell, CELL if sizes.statistics_channels else 1)
        check_crop(config.plan.crop or data.extent, data.extent, align)
        check_batch(config.plan.batch, sizes.pooling)
        self._last = LastBatch(network)
        self._shown = Shown(data, config.plan, config.loss.spoiled, config.data.cache, align=align)
        wanted = (sizes.map_size, sizes.map_size, sizes.channels)
        if answers is not None and answers.shape != wanted:
            raise InvalidRequest(
                f"the teacher's quality map is {answers.shape}, the student's {wanted} (cells, cells, channels)",
                hint="set map_size and map_channels of model.architecture to the teacher's",
            )
        deviation = config.loss.unit is Unit.DEVIATION
        self._unit = data.spread if deviation else 1.0
        self._map_unit = answers.power if answers is not None and deviation else 1.0

    def batches(self, rng: np.random.Generator) -> list[np.ndarray]:
        """Shuffle the training rows."""
        return shuffled_batches(self.data.train, self.config.plan.batch, rng)

    def loss(self, network: nn.Module, rows: np.ndarray, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        """Labels' error and order; with a teacher the error against its map, cut where the crop is cut, and score.

        Pictures that are also shown spoiled must score below themselves.
        """
        shown = self._shown.batch(rows, rng, _device(self.network))
        with self._last.watched():
            scores, feature_map = network(shown.own.images, shown.own.statistics)
        scores = scores.float() / self._unit
        terms = score_terms(scores, self.data.labels[rows] / self._unit, self.config.loss)
        if self._answers is not None:
            terms |= self._distillation(self._answers, scores, feature_map.float(), shown.crops)
        if shown.spoiled is not None and shown.ordered is not None:
            with self._last.scoring():
                ordered, _ = network(shown.ordered.images, shown.ordered.statistics)
            terms["spoiled"] = order_term(ordered.float() / self._unit, shown.spoiled, self.config.loss.spoiled)
        return terms

    def _distillation(
        self, answers: Answers, scores: torch.Tensor, feature_map: torch.Tensor, crops: Crops
    ) -> dict[str, torch.Tensor]:
        loss = self.config.loss
        cells = torch.from_numpy(crops.cut_own(answers.maps(crops.index), self._cell)).to(feature_map.device).float()
        terms = {"map": loss.teacher_map * F.mse_loss(feature_map, cells.permute(0, 3, 1, 2)) / self._map_unit}
        if loss.teacher_score:
            wanted = torch.from_numpy(answers.scores[crops.index] / self._unit).to(scores.device)
            terms["teacher_score"] = loss.teacher_score * F.mse_loss(scores, wanted.float())
        return terms

    def validate(self, network: nn.Module) -> Validation:
        """Measure whole pictures of the validation rows."""
        return validate(network, self.data, self.config.plan.precision, self.config.data.validation_images)


def new_student(config: StudentConfig, begin: Begin, centre: float) -> Student:
    """Build a student with random weights. `centre`: mean of the labels."""
    student = Student(config)
    if config.pooling is Pooling.MOMENTS:
        begin_at(student.fc3, centre)
    elif begin is Begin.POOLING:
        begin_as_pooling(student.fc1, student.fc3, config.map_size**2, centre)
    return student


def score_terms(scores: torch.Tensor, labels: np.ndarray, loss: ScoreLoss) -> dict[str, torch.Tensor]:
    """Squared error and margin ranking of scores (B,) against labels (B,), both in the loss's unit."""
    wanted = torch.from_numpy(labels).to(scores.device).float()
    terms = {"squared": F.mse_loss(scores, wanted)}
    if loss.ranking:
        terms["ranking"] = loss.ranking * ranking_loss(scores, wanted, loss.margin)
    return terms


def check_crop(crop: int, extent: int, align: int) -> None:
    """Raise `InvalidRequest` unless crops fit the pictures and the grid of the maps."""
    if crop > extent or crop % align or extent % align:
        raise InvalidRequest(
            f"crops of {crop} pixels do not fit pictures of {extent} on a grid of {align}",
            hint=f"set plan.crop to a multiple of {align}, at most {extent}, or leave it out for whole pictures",
        )


def check_batch(batch: int, pooling: Pooling) -> None:
    """Raise `InvalidRequest` for a batch of one where the regressor's input is standardised over the batch."""
    if batch < 2 and pooling is Pooling.MOMENTS:
        raise InvalidRequest(
            'a regressor with pooling = "moments" learns from the spread of a batch, and plan.batch is 1',
            hint="set plan.batch to 2 or more; plan.accumulation makes larger updates of small batches",
        )


def _device(network: nn.Module) -> torch.device:
    return next(network.parameters()).device
