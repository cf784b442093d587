"""The student: a CNN trained on the labels, and on the quality map and score of a teacher where there is one."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from dpiqa.errors import InvalidRequest
from dpiqa.models.base import ModelCard
from dpiqa.models.regressor import MapPooling
from dpiqa.models.stage_student import StageStudent
from dpiqa.models.student import Student, build_map_student
from dpiqa.models.student_config import StudentConfig
from dpiqa.training.config.kinds import ErrorUnit, RegressorStart, StudentRun
from dpiqa.training.data.batches import NetworkInput
from dpiqa.training.data.crops import Crops
from dpiqa.training.data.labelled import Labelled
from dpiqa.training.data.teacher_outputs import TeacherOutputs
from dpiqa.training.runs.context import RunContext
from dpiqa.training.runs.initial_weights import average_backbones, fill_backbone, package_weights, start_card
from dpiqa.training.runs.regressor import begin_regressor
from dpiqa.training.runs.scorer import Partner, ScorerRecipe, ScorerTask, train_scorer
from dpiqa.training.runs.stage_student import StageTask, begin_stages, set_unit
from dpiqa.types import ModelKind

#: Pixels per cell of a student's map before it is resized: stride 32, and a transposed convolution.
STRIDE = 16


def train_student(config: StudentRun, context: RunContext) -> ModelCard | None:
    """Train a student and publish it with its card; None in a process that is not the main one."""
    model = config.model
    backbone_file = model.backbone_weights or (
        package_weights(model.backbone_package) if model.backbone_package else None
    )

    def build(start: Student | StageStudent | None, data: Labelled) -> Student | StageStudent:
        if start is not None:
            cards = [start_card(name, ModelKind.STUDENT, context.models_dir) for name in model.average]
            average_backbones(start, cards, context.models_dir)
            return start
        sizes = model.architecture
        assert sizes is not None  # noqa: S101 - the config's own check
        stages = sizes.pooling is MapPooling.STAGES
        student = StageStudent(sizes) if stages else new_student(sizes, model.begin, data.centre)
        if backbone_file is not None:
            fill_backbone(student, backbone_file)
        if isinstance(student, StageStudent):
            begin_stages(student, data, config)
        return student

    def task(
        network: Student | StageStudent, data: Labelled, outputs: TeacherOutputs | None
    ) -> "StudentTask | StageTask":
        if isinstance(network, StageStudent):
            return StageTask(network, data, config, outputs)
        return StudentTask(network, data, config, outputs)

    def finish(student: Student | StageStudent) -> list[nn.Linear]:
        if isinstance(student, Student):
            return [student.fc3]
        set_unit(student, 1.0)
        return student.last_layers

    recipe = ScorerRecipe(
        kind=ModelKind.STUDENT,
        sizes=StudentConfig,
        partner=Partner(role="teacher", kind=ModelKind.TEACHER, choice=config.teacher),
        files={"backbone_weights": backbone_file},
        models={"average": ModelKind.STUDENT},
        build=build,
        task=task,
        finish=finish,
    )
    return train_scorer(config, context, recipe)


class StudentTask(ScorerTask[Student]):
    """See `ScorerTask`. `outputs`: those of its teacher, whose maps are cut where the crops are cut."""

    def __init__(
        self, network: Student, data: Labelled, config: StudentRun, outputs: TeacherOutputs | None = None
    ) -> None:
        sizes = network.config
        self._cell = sizes.input_size // sizes.map_size
        super().__init__(network, data, config, sizes, align=math.lcm(STRIDE * sizes.shrink, self._cell))
        self._outputs, self._weights = outputs, config.loss
        expected = (sizes.map_size, sizes.map_size, sizes.channels)
        if outputs is not None and outputs.shape != expected:
            raise InvalidRequest(
                f"the teacher's quality map is {outputs.shape}, the student's {expected} (cells, cells, channels)",
                hint="set map_size and map_channels of model.architecture to the teacher's",
            )
        in_deviations = config.loss.unit is ErrorUnit.DEVIATION
        self._map_unit = outputs.power if outputs is not None and in_deviations else 1.0

    def forward(self, network: nn.Module, crops: NetworkInput) -> tuple[torch.Tensor, torch.Tensor]:
        """See `ScorerTask`."""
        scores, feature_map = network(crops.images, **crops.keywords)
        return scores, feature_map

    def further_terms(self, scores: torch.Tensor, quality_map: torch.Tensor, crops: Crops) -> dict[str, torch.Tensor]:
        """Return the error against the teacher's map and score, where there is a teacher."""
        if self._outputs is None:
            return {}
        maps = torch.from_numpy(crops.cut_maps(self._outputs.maps(crops.index), self._cell))
        targets = maps.to(quality_map.device).float().permute(0, 3, 1, 2)
        terms = {"map": self._weights.teacher_map * F.mse_loss(quality_map.float(), targets) / self._map_unit}
        if self._weights.teacher_score:
            teacher_scores = torch.from_numpy(self._outputs.scores[crops.index] / self._unit).to(scores.device)
            terms["teacher_score"] = self._weights.teacher_score * F.mse_loss(scores, teacher_scores.float())
        return terms


def new_student(config: StudentConfig, begin: RegressorStart, centre: float) -> Student:
    """Build a student that reads a map, with random weights. `centre`: mean of the labels."""
    student = build_map_student(config)
    begin_regressor(student, config, begin, centre)
    return student
