"""The student that reads every stage of its backbone: its first weights, and its task, whose first stages may stay."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import structlog
import torch
import torch.nn.functional as F
from torch import nn

from dpiqa.errors import InvalidRequest
from dpiqa.models.stage_student import GRID, Landmarks, StageStudent
from dpiqa.training.config.kinds import StudentRun
from dpiqa.training.config.precision import Arithmetic, autocast
from dpiqa.training.data.array_cache import cached_rows
from dpiqa.training.data.batches import NetworkInput, whole_pictures
from dpiqa.training.data.crops import Crops
from dpiqa.training.data.early_stages import CachedStages, cached_stages
from dpiqa.training.data.labelled import Labelled
from dpiqa.training.data.teacher_outputs import TeacherOutputs
from dpiqa.training.depthwise import with_fast_depthwise
from dpiqa.training.runs.scorer import ScorerTask

log = structlog.get_logger()
_VERSION = 1  #: of the moments: raise it when their values change
_BATCH = 16  #: pictures at once
_LEAST_PENALTY = 1e-6  #: keeps the system solvable where two landmarks are alike


class StageTask(ScorerTask[StageStudent]):
    """See `ScorerTask`. `outputs`: those of its teacher, of which it learns the scores; it has no map."""

    def __init__(
        self, network: StageStudent, data: Labelled, config: StudentRun, outputs: TeacherOutputs | None = None
    ) -> None:
        if outputs is not None and config.loss.teacher_map:
            hint = "set loss.teacher_map = 0 and loss.teacher_score"
            raise InvalidRequest('a student with pooling = "stages" has no map to learn from a teacher', hint=hint)
        freeze(network, config.model.frozen_stages)
        if config.plan.precision is Arithmetic.BFLOAT16 and next(network.parameters()).device.type == "cpu":
            with_fast_depthwise(network.base_model)
        data, early = with_early_stages(network, data, config)
        align = 32 if early is None else GRID
        super().__init__(network, data, config, network.config, align=align, early=early)
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


def freeze(network: StageStudent, stages: int) -> None:
    """Let everything learn but the first `stages` stages of the backbone, with the stem, if there are any."""
    backbone = network.base_model
    if stages > len(backbone.blocks):
        raise InvalidRequest(
            f"the backbone has {len(backbone.blocks)} stages, and model.frozen_stages is {stages}",
            hint="0 lets all of them learn",
        )
    if stages:
        for part in (backbone.conv_stem, backbone.bn1, *backbone.blocks[:stages]):
            part.requires_grad_(requires_grad=False)


def with_early_stages(
    network: StageStudent, data: Labelled, config: StudentRun
) -> tuple[Labelled, Callable[[np.ndarray, Path], CachedStages] | None]:
    """Return the data with the outputs of the stages that do not learn, and what computes them for other pixels."""
    stages = config.model.frozen_stages
    if not stages:
        return data, None
    early = partial(_early, network, stages, config.plan.precision)
    return replace(data, early=early(data.pixels, data.folder)), early


def _early(network: StageStudent, stages: int, precision: Arithmetic, pixels: np.ndarray, folder: Path) -> CachedStages:
    return cached_stages(network, pixels, folder, stages, precision)


def begin_as_regression(network: StageStudent, data: Labelled, config: StudentRun) -> None:
    """Standardise by the training pictures, and begin as the regression of their labels on their moments.

    Ridge regression by the linear layer, or kernel ridge regression by the landmarks (Nystrom's approximation), which
    are training pictures drawn by the plan's seed.
    """
    if network.reads_statistics and data.statistics is None:
        data = data.with_statistics()
    data, _ = with_early_stages(network, data, config)
    moments = torch.from_numpy(cached_moments(network, data, config.plan.precision)[data.train])
    labels = torch.from_numpy(data.labels[data.train] - data.centre)
    penalty = config.model.ridge
    with torch.no_grad():
        network.standard.running_mean = moments.mean(dim=0, dtype=torch.float64).float()
        network.standard.running_var = moments.double().var(dim=0, correction=0).float()
        values = network.standardised(moments)
        network.linear.bias.fill_(data.centre)
        if isinstance(network.hidden, Landmarks):
            count = len(network.hidden.moments)
            if count > len(values):
                hint = "set model.architecture.landmarks to fewer"
                raise InvalidRequest(f"{count} landmarks, and {len(values)} pictures to take them from", hint=hint)
            chosen = np.random.default_rng(config.plan.seed).choice(len(values), count, replace=False)
            network.hidden.moments.copy_(values[np.sort(chosen)])
            nearness, among = network.hidden(values).double(), network.hidden(network.hidden.moments).double()
            network.linear.weight.zero_()
            network.output.weight.copy_(kernel_ridge(nearness, among, labels, penalty))
        else:
            network.linear.weight.copy_(ridge(values.double(), labels, penalty))
    log.info("regression_fitted", pictures=len(labels), moments=network.width, penalty=penalty)


def kernel_ridge(nearness: torch.Tensor, among: torch.Tensor, labels: torch.Tensor, penalty: float) -> torch.Tensor:
    """Solve for the weights (M,) of M landmarks, as kernel ridge regression restricted to functions of these.

    `nearness`: (N, M) of pictures to landmarks; `among`: (M, M) of landmarks among themselves; `labels`: (N,); float64.
    """
    system = nearness.T @ nearness + penalty * among
    system += _LEAST_PENALTY * torch.eye(len(system), dtype=system.dtype)
    weights: torch.Tensor = torch.linalg.solve(system, nearness.T @ labels)
    return weights


def ridge(values: torch.Tensor, labels: torch.Tensor, penalty: float) -> torch.Tensor:
    """Solve for the weights (W,) with the least squared error of `labels` (N,) plus `penalty` times their square.

    `values`: (N, W), float64 as `labels`. By the N x N system: there are about as many pictures as values.
    """
    system = values @ values.T + penalty * torch.eye(len(values), dtype=values.dtype)
    weights: torch.Tensor = values.T @ torch.linalg.solve(system, labels)
    return weights


def cached_moments(network: StageStudent, data: Labelled, precision: Arithmetic) -> np.ndarray:
    """Return the moments (N, `width`) float32 of all whole pictures by the network's present weights, kept on disk."""
    digest = hashlib.sha256(f"{_VERSION} {precision} {network.config.model_dump_json()} {data.early is None}".encode())
    for tensor in network.base_model.state_dict().values():
        digest.update(tensor.cpu().numpy().tobytes())
    device = next(network.parameters()).device

    def make(rows: range) -> Iterator[np.ndarray]:
        for start in range(rows.start, rows.stop, _BATCH):
            inputs = whole_pictures(data, np.arange(start, min(start + _BATCH, rows.stop)), device)
            with torch.inference_mode(), autocast(device, precision):
                yield from network.moments(inputs.images, inputs.statistics, inputs.early).cpu().numpy()

    file = data.folder / f"moments-{digest.hexdigest()[:16]}" / "moments.npy"
    return cached_rows(file, (len(data.pixels), network.width), np.float32, make, label="moments of the backbone")
