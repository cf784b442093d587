"""The student: a CNN trained on the labels, and on the teacher's feature map and score where there is a teacher."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from dpiqa.models.student import Student, StudentConfig
from dpiqa.training.dataset import random_crops
from dpiqa.training.distillation import CELL, TeacherAnswers, distillation_loss
from dpiqa.training.heads import begin_as_pooling, calibrate_on_training_rows
from dpiqa.training.labelled import Labelled, as_images, validate
from dpiqa.training.loop import Plan, fit, load_best
from dpiqa.training.losses import quality_loss


def train_student(
    data: Labelled,
    config: StudentConfig,
    plan: Plan,
    out: Path,
    *,
    teacher: TeacherAnswers | None = None,
    start: Path | None = None,
) -> Student:
    """Train and return the best student, calibrated on the training rows. `start`: weights to begin from."""
    torch.manual_seed(plan.seed)
    student = Student(config).to(memory_format=torch.channels_last)
    if start is None:
        begin_as_pooling(student.fc1, student.fc3, config.map_size**2, data.centre)
    else:
        load_best(student, start)
    power = teacher.power if teacher else 1.0

    def loss_of(model: nn.Module, rows: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
        crops = random_crops(rows, data.pixels.shape[1], plan.crop, CELL, rng)
        with torch.autocast("cpu", torch.bfloat16):
            scores, feature_map = model(as_images(crops.cut(data.pixels)))
        loss = quality_loss(scores.float() / data.spread, _standard(data.labels[crops.index], data))
        if teacher is None:
            return loss
        return loss + distillation_loss(scores.float(), feature_map.float(), teacher, crops, data.spread, power)

    best = fit(student, data.train, loss_of, lambda model: validate(model, data), plan, out)
    load_best(student, best)
    calibrate_on_training_rows(student, student.fc3, data)
    return student


def _standard(labels: np.ndarray, data: Labelled) -> torch.Tensor:
    return torch.from_numpy(labels).float() / data.spread
