"""Training of scorers, which students and teachers share: the steps of a run, and the terms of the loss."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from dpiqa.errors import InvalidRequest
from dpiqa.models.base import ModelCard
from dpiqa.models.choice import ModelChoice
from dpiqa.models.quality_decoder import QfdConfig
from dpiqa.models.regressor import MapPooling
from dpiqa.models.scene_statistics import CELL
from dpiqa.models.stage_student import StageStudent
from dpiqa.models.student import Student
from dpiqa.models.student_config import StudentConfig
from dpiqa.models.teacher import Teacher, TeacherConfig
from dpiqa.training.config.kinds import ErrorUnit, ScoreLoss, StudentRun, TeacherRun
from dpiqa.training.data.batches import BatchSource, NetworkInput
from dpiqa.training.data.crops import Crops, check_crop
from dpiqa.training.data.distorted import order_term
from dpiqa.training.data.frozen import FrozenParts
from dpiqa.training.data.labelled import Labelled, evenly, load_images, load_labelled
from dpiqa.training.data.teacher_outputs import TeacherOutputs, teacher_outputs
from dpiqa.training.loop.task import Validation, shuffled_batches
from dpiqa.training.runs.batchnorm import BatchStatistics
from dpiqa.training.runs.context import RunContext, file_digests, fit_run, identity_of
from dpiqa.training.runs.initial_weights import start_card, start_network, torch_scorer
from dpiqa.training.runs.publish import finish_scorer_run, origins
from dpiqa.training.runs.regressor import calibrate_on
from dpiqa.training.runs.validation import agreement, predict
from dpiqa.types import ModelKind

N = TypeVar("N", Student, StageStudent, Teacher)


class ScorerTask(ABC, Generic[N]):
    """The task of a scorer, see `dpiqa.training.loop.task.Task`: labels, their order, and that of distorted copies.

    `network` comes with its first weights. `align`: pixels that its crops' corners must be multiples of. `sizes`: those
    of its regressor. `frozen`: see `BatchSource`.
    """

    def __init__(
        self,
        network: N,
        data: Labelled,
        config: StudentRun | TeacherRun,
        sizes: StudentConfig | QfdConfig,
        align: int,
        frozen: FrozenParts | None = None,
    ) -> None:
        if sizes.statistics_channels:
            align = math.lcm(align, CELL)
            data = data if data.statistics is not None else data.with_statistics()
        check_crop(config.plan.crop or data.extent, data.extent, align)
        if config.plan.batch < 2 and sizes.pooling is MapPooling.MOMENTS:
            raise InvalidRequest(
                'a regressor with pooling = "moments" learns from the spread of a batch, and plan.batch is 1',
                hint="set plan.batch to 2 or more; plan.accumulation makes larger updates of small batches",
            )
        self.network: N = network
        self.data = data
        self._plan, self._loss, self._most = config.plan, config.loss, config.data.validation_images
        self._norms = BatchStatistics(network)
        self._source = BatchSource(
            data, config.plan, config.loss.distorted, config.data.cache, align=align, frozen=frozen
        )
        self._unit = data.spread if config.loss.unit is ErrorUnit.DEVIATION else 1.0
        self._targets = data.labels

    def batches(self, rng: np.random.Generator) -> list[np.ndarray]:
        """Shuffle the training rows."""
        return shuffled_batches(self.data.train, self._plan.batch, rng)

    def loss(self, network: nn.Module, rows: np.ndarray, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        """Error and order of the targets, the terms of this kind of scorer, and the order of distorted copies."""
        batch = self._source.batch(rows, rng, next(self.network.parameters()).device)
        with self._norms.recorded():
            scores, quality_map = self.forward(network, batch.pictures)
        scores = scores.float() / self._unit
        terms = score_terms(scores, self._targets[rows] / self._unit, self._loss)
        terms |= self.further_terms(scores, quality_map, batch.crops)
        if batch.copies is not None and batch.ordered is not None:
            with self._norms.applied():
                ordered, _ = self.forward(network, batch.ordered)
            terms["distorted"] = order_term(ordered.float() / self._unit, batch.copies, self._loss.distorted)
        return terms

    @abstractmethod
    def forward(self, network: nn.Module, crops: NetworkInput) -> tuple[torch.Tensor, torch.Tensor]:
        """Return scores (B,) on the labels' scale, and quality maps (B, C, m, m)."""

    def further_terms(self, scores: torch.Tensor, quality_map: torch.Tensor, crops: Crops) -> dict[str, torch.Tensor]:  # noqa: ARG002 - for kinds that have some
        """Return the terms of the loss that only this kind of scorer has. `scores`: (B,) in the loss's unit."""
        return {}

    def validate(self, network: nn.Module) -> Validation:
        """Measure whole pictures of the validation rows."""
        rows = evenly(self.data.val, self._most)
        return agreement(predict(network, self.data, rows, self._plan.precision), self.data.labels[rows])


def score_terms(scores: torch.Tensor, labels: np.ndarray, loss: ScoreLoss) -> dict[str, torch.Tensor]:
    """Squared error, margin ranking and correlation of scores (B,) with labels (B,), both in the loss's unit."""
    targets = torch.from_numpy(labels).to(scores.device).float()
    terms = {"squared": F.mse_loss(scores, targets)}
    if loss.ranking:
        terms["ranking"] = loss.ranking * ranking_loss(scores, targets, loss.margin)
    if loss.correlation:
        terms["correlation"] = loss.correlation * correlation_loss(scores, targets)
    return terms


def correlation_loss(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Half of one minus the linear correlation of a batch, (B,) and (B,): 0 to 1; 0.5 where either is constant."""
    score_offsets, label_offsets = scores - scores.mean(), labels - labels.mean()
    norms = score_offsets.norm() * label_offsets.norm()
    correlation: torch.Tensor = (score_offsets * label_offsets).sum() / norms.clamp_min(1e-6)
    return (1 - correlation) / 2


def ranking_loss(scores: torch.Tensor, labels: torch.Tensor, margin: float = 0.25) -> torch.Tensor:
    """Mean over all pairs of how much the better image's score falls short of the worse one's plus the margin.

    `scores`, `labels`: (B,); `margin` in units of the batch's standard deviation of labels (DP-IQA, equations 9-11).
    Pairs with equal labels have no order: they are left out, and a batch of nothing else has zero loss.
    """
    first, second = torch.triu_indices(len(labels), len(labels), 1, device=labels.device)
    order = torch.sign(labels[first] - labels[second])
    ordered = order != 0
    if not bool(ordered.any()):
        return scores.sum() * 0
    least = margin * float(labels.std())
    return F.margin_ranking_loss(scores[first[ordered]], scores[second[ordered]], order[ordered], margin=least)


@dataclass(frozen=True, kw_only=True)
class Partner:
    """Another scorer whose outputs are learned: a student's teacher, or a teacher's guide."""

    role: str  #: name of its setting
    kind: ModelKind
    choice: ModelChoice | None  #: None: there is none


@dataclass(frozen=True, kw_only=True)
class ScorerRecipe:
    """The steps in which the runs of students and teachers differ."""

    kind: ModelKind
    sizes: type[StudentConfig] | type[TeacherConfig]
    partner: Partner
    files: Mapping[str, Path | None]  #: of which the weights are made, by setting of `[model]`
    models: Mapping[str, ModelKind]  #: settings of `[model]` that name a model, or several, the weights are made of
    #: returns the network to train, given the network of `model.start` or None
    build: Callable[[Any, Labelled], Any]
    task: Callable[[Any, Labelled, TeacherOutputs | None], ScorerTask[Any]]
    #: gives the trained network its published architecture, and returns the layers whose sum is its score
    finish: Callable[[Any], Sequence[nn.Linear]]


def train_scorer(config: StudentRun | TeacherRun, context: RunContext, recipe: ScorerRecipe) -> ModelCard | None:
    """Train a scorer and publish it with its card; None in a process that is not the main one."""
    model, models_dir, partner = config.model, context.models_dir, recipe.partner
    start = start_card(model.start, recipe.kind, models_dir) if model.start else None
    architecture = recipe.sizes.model_validate(start.architecture) if start else model.architecture
    assert architecture is not None  # noqa: S101 - the config's own check
    data = load_labelled(load_images(config.data), architecture.preprocessing, config.data)
    partner_card, outputs = _partner_outputs(partner, data, config, context)

    torch.manual_seed(config.plan.seed)
    network = recipe.build(start_network(start, models_dir) if start else None, data)
    task = recipe.task(network, data, outputs)
    cards: dict[str, ModelCard] = {}
    for setting, kind in recipe.models.items():
        named = getattr(model, setting) or ()
        if isinstance(named, str):
            cards[setting] = start_card(named, kind, models_dir)
        else:
            cards |= {f"{setting} {name}": start_card(name, kind, models_dir) for name in named}
    digests = file_digests(recipe.files) | {name: card.sha256 for name, card in cards.items()}
    sources = {"start": start and start.sha256, partner.role: partner_card and partner_card.scorer_id}
    identity = identity_of(config, data.digest, **sources, files=digests)
    result = fit_run(task, config, identity, context)
    if not result.is_main:
        return None

    calibrate_on(model, network, recipe.finish(network), task.data, config.plan.precision)
    made_from = origins({"start": start, partner.role: partner_card, **cards, **recipe.files})
    target = context.target(config)
    return finish_scorer_run(network, network.config, data, config, result, identity, made_from, target)


def _partner_outputs(
    partner: Partner, data: Labelled, config: StudentRun | TeacherRun, context: RunContext
) -> tuple[ModelCard | None, TeacherOutputs | None]:
    """Return the partner's card and its outputs for the training pictures.

    Raises `InvalidRequest` if it sees pictures in another size.
    """
    if partner.choice is None:
        return None, None
    scorer = torch_scorer(partner.choice, partner.kind, context.models_dir, context.device)
    size = scorer.card.preprocessing
    if (size.height, size.width) != data.pixels.shape[1:3]:
        raise InvalidRequest(
            f"{partner.choice.model} takes pictures of {size.width}x{size.height} pixels, this model of "
            f"{data.pixels.shape[2]}x{data.pixels.shape[1]}",
            hint="choose the same input_size for both",
        )
    return scorer.card, teacher_outputs(scorer, data.pixels, data.sha256, data.train, config.data.cache)
