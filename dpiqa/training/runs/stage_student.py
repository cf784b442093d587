"""The student that reads every stage of its backbone: its first weights, and its task, whose backbone may stay."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import structlog
import torch
import torch.nn.functional as F
from torch import nn

from dpiqa.errors import InvalidRequest
from dpiqa.models.stage_student import GRID, StageStudent
from dpiqa.training.config.kinds import StudentRun
from dpiqa.training.config.precision import Arithmetic
from dpiqa.training.data.batches import NetworkInput
from dpiqa.training.data.crops import Crops
from dpiqa.training.data.frozen import Frozen, FrozenParts, cached_moments, cached_stages
from dpiqa.training.data.labelled import Labelled
from dpiqa.training.data.teacher_outputs import TeacherOutputs
from dpiqa.training.depthwise import with_fast_depthwise
from dpiqa.training.runs.scorer import ScorerTask

log = structlog.get_logger()
_STRIDE = 32  #: pixels a side of the coarsest cells


class StageTask(ScorerTask[StageStudent]):
    """See `ScorerTask`. `outputs`: those of its teacher, of which it learns the scores; it has no map."""

    def __init__(
        self, network: StageStudent, data: Labelled, config: StudentRun, outputs: TeacherOutputs | None = None
    ) -> None:
        if outputs is not None and config.loss.teacher_map:
            hint = "set loss.teacher_map = 0 and loss.teacher_score"
            raise InvalidRequest('a student with pooling = "stages" has no map to learn from a teacher', hint=hint)
        set_unit(network, data.spread)
        frozen = freeze(network, config)
        if config.plan.precision is Arithmetic.BFLOAT16 and next(network.parameters()).device.type == "cpu":
            with_fast_depthwise(network.base_model)
        if network.reads_statistics and data.statistics is None:
            data = data.with_statistics()
        if frozen is not None:
            data = replace(data, frozen=frozen(data.pixels, data.statistics, data.folder))
        align = GRID if config.model.frozen_stages else _STRIDE
        super().__init__(network, data, config, network.config, align=align, frozen=frozen)
        self._outputs, self._weight = outputs, config.loss.teacher_score

    def forward(self, network: nn.Module, crops: NetworkInput) -> tuple[torch.Tensor, torch.Tensor]:
        """See `ScorerTask`."""
        scores, moments = network(crops.images, **crops.keywords)
        return scores, moments

    def further_terms(self, scores: torch.Tensor, quality_map: torch.Tensor, crops: Crops) -> dict[str, torch.Tensor]:  # noqa: ARG002 - moments, which have no targets
        """Return the error against the teacher's scores, where there is a teacher."""
        if self._outputs is None:
            return {}
        targets = torch.from_numpy(self._outputs.scores[crops.index] / self._unit).to(scores.device)
        return {"teacher_score": self._weight * F.mse_loss(scores, targets.float())}


def freeze(network: StageStudent, config: StudentRun) -> FrozenParts | None:
    """Keep the first stages of the backbone, with the stem, from learning; with all stages the last convolution, too.

    Returns what computes their outputs, or None where everything learns. Raises `InvalidRequest` for more stages than
    there are, and for crops of pictures of which only whole ones are computed.
    """
    stages, backbone, precision = config.model.frozen_stages, network.base_model, config.plan.precision
    count = len(backbone.blocks)
    if stages > count:
        raise InvalidRequest(
            f"the backbone has {count} stages, and model.frozen_stages is {stages}", hint="0 lets all of them learn"
        )
    if stages == 0:
        return None
    if stages == count:
        if config.plan.crop is not None:
            hint = "leave out plan.crop, or let a stage learn"
            raise InvalidRequest("a backbone of which nothing learns sees whole pictures", hint=hint)
        backbone.requires_grad_(requires_grad=False)
        return partial(_all, network, precision)
    for part in (backbone.conv_stem, backbone.bn1, *backbone.blocks[:stages]):
        part.requires_grad_(requires_grad=False)
    return partial(_first, network, stages, precision)


def _all(
    network: StageStudent, precision: Arithmetic, pixels: np.ndarray, statistics: np.ndarray | None, folder: Path
) -> Frozen:
    return cached_moments(network, pixels, statistics, folder, precision)


def _first(
    network: StageStudent,
    stages: int,
    precision: Arithmetic,
    pixels: np.ndarray,
    _statistics: np.ndarray | None,
    folder: Path,
) -> Frozen:
    return cached_stages(network, pixels, folder, stages, precision)


@torch.no_grad()
def set_unit(network: StageStudent, unit: float, further: Sequence[nn.Linear] = ()) -> None:
    """Let the layers whose sum is the score compute in `unit`; no score changes.

    While it is trained the unit is the labels' deviation: then steps of the optimiser's size suit their weights.
    `further`: layers of another network that are added to this one's.
    """
    for layer in (*network.last_layers, *further):
        layer.weight.mul_(network.unit / unit)
        layer.bias.mul_(network.unit / unit)
    network.unit = unit


def begin_stages(network: StageStudent, data: Labelled, config: StudentRun) -> None:
    """Standardise by the training pictures, and begin as their mean, or as the ridge regression of their labels."""
    if network.reads_statistics and data.statistics is None:
        data = data.with_statistics()
    cached = cached_moments(network, data.pixels, data.statistics, data.folder, config.plan.precision)
    moments = torch.from_numpy(cached.moments[data.train, 0].astype(np.float32))
    labels = torch.from_numpy(data.labels[data.train] - data.centre)
    with torch.no_grad():
        network.standard.running_mean = moments.mean(dim=0, dtype=torch.float64).float()
        network.standard.running_var = moments.double().var(dim=0, correction=0).float()
        network.linear.bias.fill_(data.centre)
        network.fc3.weight.mul_(data.spread)
        network.fc3.bias.zero_()
        if config.model.ridge is not None:
            values = network.standardised(moments).double()
            network.linear.weight.copy_(ridge(values, labels, config.model.ridge))
            network.fc3.weight.zero_()  # the perceptron adds nothing yet
    log.info("standardised", pictures=len(labels), moments=network.width, ridge=config.model.ridge)


def ridge(values: torch.Tensor, labels: torch.Tensor, penalty: float) -> torch.Tensor:
    """Solve for the weights (W,) with the least squared error of `labels` (N,) plus `penalty` times their square.

    `values`: (N, W), float64 as `labels`. By the N x N system: there are about as many pictures as values.
    """
    system = values @ values.T + penalty * torch.eye(len(values), dtype=values.dtype)
    weights: torch.Tensor = values.T @ torch.linalg.solve(system, labels)
    return weights
