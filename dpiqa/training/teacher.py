"""The teacher: the VAE's encoder stays as it is, everything behind it learns from the labels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from dpiqa.models.student import Student
from dpiqa.models.teacher import Teacher, TeacherConfig
from dpiqa.models.vae import encode
from dpiqa.training.dataset import random_crops
from dpiqa.training.heads import begin_as_pooling, calibrate_on_training_rows, fold, normalise
from dpiqa.training.labelled import Labelled, as_images, predict, validate
from dpiqa.training.loop import Plan, fit, load_best
from dpiqa.training.losses import quality_loss

#: Every so manieth validation picture is looked at between epochs: a teacher takes a while for each.
VALIDATE_EACH = 3


def train_teacher(
    data: Labelled, config: TeacherConfig, vae_file: Path, plan: Plan, out: Path, *, guide: Student | None = None
) -> Teacher:
    """Train and return the best teacher, calibrated on training rows. `vae_file`: what `train_vae` wrote.

    `guide`: a student trained on the labels. Its scores are learned as well: they hold less noise than thirty people's
    opinions do. Where `config.trunk` asks for one, its backbone becomes the trunk of the image adapter.
    """
    torch.manual_seed(plan.seed)
    teacher = Teacher(with_scaling(config, vae_file)).to(memory_format=torch.channels_last)
    teacher.vae.load_state_dict(load_file(vae_file))
    teacher.vae.requires_grad_(requires_grad=False)
    if guide is not None and config.trunk is not None:
        teacher.img_adapter.get_submodule("trunk").load_state_dict(guide.base_model.state_dict())
    teacher.unet.conv_norm_out.requires_grad_(requires_grad=False)  # never used by the score
    teacher.unet.conv_out.requires_grad_(requires_grad=False)
    cell = config.vae.reduction * 2 ** (len(config.unet.channels) - 1)  # pixels per cell of the coarsest map
    begin_as_pooling(teacher.QFD.fc1, teacher.QFD.fc3, config.qfd.map_size**2, data.centre)
    normalise(teacher.QFD)
    targets = _targets(data, guide)

    def loss_of(model: nn.Module, rows: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
        images = as_images(random_crops(rows, data.pixels.shape[1], plan.crop, cell, rng).cut(data.pixels))
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                latents = encode(teacher.vae, images)
            scores, _ = model(images, latents)
        return quality_loss(scores.float() / data.spread, torch.from_numpy(targets[rows]).float() / data.spread)

    some = replace(data, val=data.val[::VALIDATE_EACH])
    best = fit(teacher, data.train, loss_of, lambda model: validate(model, some), plan, out)
    load_best(teacher, best)
    fold(teacher.QFD)
    calibrate_on_training_rows(teacher, teacher.QFD.fc3, data)
    return teacher


def _targets(data: Labelled, guide: Student | None) -> np.ndarray:
    """Labels, or the mean of the labels and the guide's calibrated scores."""
    if guide is None:
        return data.labels
    scores = predict(guide.eval(), data.pixels, data.train)
    slope, offset = np.polyfit(scores, data.labels[data.train], 1)
    targets = data.labels.copy()
    targets[data.train] = (targets[data.train] + slope * scores + offset) / 2
    return targets


def with_scaling(config: TeacherConfig, vae_file: Path) -> TeacherConfig:
    """Return the configuration with the scaling factor that the VAE's file states."""
    with safe_open(vae_file, "pt") as file:
        factor = float((file.metadata() or {})["scaling_factor"])
    return config.model_copy(update={"vae": config.vae.model_copy(update={"scaling_factor": factor})})
