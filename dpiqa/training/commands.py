"""The steps of training as plain functions: VAE, teacher, student, evaluation. A front end adds options and colours."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from dpiqa.errors import InvalidRequest
from dpiqa.evaluation.evaluate import evaluate
from dpiqa.models.base import ModelCard, ModelKind
from dpiqa.models.loading import load_scorer
from dpiqa.models.student import Student
from dpiqa.models.torch_scorer import TorchScorer
from dpiqa.training import presets
from dpiqa.training.dataset import read_labels
from dpiqa.training.distillation import collect_answers
from dpiqa.training.export import export_model
from dpiqa.training.labelled import Labelled, load_labelled
from dpiqa.training.loop import Plan, load_best
from dpiqa.training.student import train_student
from dpiqa.training.teacher import train_teacher
from dpiqa.training.vae import train_vae

VAE_FILE = "vae.safetensors"


def vae(labels: Path, out: Path, *, cache: Path, minutes: float = presets.VAE_TRAINING.minutes) -> Path:
    """Train the autoencoder on the training photographs (labels unused); returns `out`/vae.safetensors."""
    data = _load(labels, cache)
    training = replace(presets.VAE_TRAINING, minutes=minutes)
    return train_vae(data.pixels[data.train], presets.TEACHER.vae, training, out)


def teacher(
    labels: Path,
    out: Path,
    *,
    cache: Path,
    vae_file: Path,
    guide_file: Path | None = None,
    plan: Plan = presets.TEACHER_PLAN,
    name: str = "teacher",
) -> ModelCard:
    """Train a teacher; writes `out`/`name`.safetensors and its card.

    `guide_file`: best.safetensors of a student trained on the labels alone, whose map helps the teacher to start.
    """
    data = _load(labels, cache)
    guide = None
    if guide_file:
        guide = Student(presets.STUDENT)
        load_best(guide, guide_file)
    trained = train_teacher(data, presets.TEACHER, vae_file, plan, out, guide=guide)
    return export_model(trained, trained.config, name, out)


def student(
    labels: Path,
    out: Path,
    *,
    cache: Path,
    teacher_name: str | None = None,
    models_dir: Path | None = None,
    start: Path | None = None,
    plan: Plan | None = None,
    name: str = "student",
) -> ModelCard:
    """Train a student; writes `out`/`name`.safetensors and its card.

    `teacher_name`: a teacher-kind model to learn from (found in `models_dir`); `start`: weights to begin from.
    """
    data = _load(labels, cache)
    answers = None
    if teacher_name:
        answers = collect_answers(_network(teacher_name, models_dir), data.pixels, data.train)
    chosen = plan or (presets.DISTILLATION_PLAN if teacher_name else presets.STUDENT_PLAN)
    trained = train_student(data, presets.STUDENT, chosen, out, teacher=answers, start=start)
    return export_model(trained, trained.config, name, out)


def measure(labels: Path, model: str, *, split: str = "val", models_dir: Path | None = None) -> dict[str, Any]:
    """Figures of a model on one split, through the production scorer."""
    images = [image for image in read_labels(labels) if image.split == split]
    evaluation = evaluate(load_scorer(model, models_dir=models_dir), images)
    return {"scorer": evaluation.scorer_id, "split": split, **evaluation.as_dict()}


def _network(name: str, models_dir: Path | None) -> nn.Module:
    scorer = load_scorer(name, models_dir=models_dir, device="cpu")
    if not isinstance(scorer, TorchScorer) or scorer.card.kind is not ModelKind.TEACHER:
        raise InvalidRequest(f"{name} is a {scorer.card.kind}, not a teacher", cure="name a model of kind teacher")
    return scorer.network


def _load(labels: Path, cache: Path) -> Labelled:
    return load_labelled(labels, presets.PREPROCESSING, cache)
