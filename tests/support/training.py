"""A data set that is learned in seconds, and a task that is learned in milliseconds."""

import csv
import tomllib

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import nn

from dpiqa.models.stage_student import StageStudent
from dpiqa.models.student_config import StudentConfig
from dpiqa.training.config.run import Plan
from dpiqa.training.loop.task import Validation, shuffled_batches
from dpiqa.training.runs.publish import export_model

STUDENT = """
kind = "student"
[model]
begin = "pooling"
[model.architecture]
backbone = "test_efficientnet"
backbone_args = { channel_multiplier = 0.5 }
input_size = 64
map_channels = 4
map_size = 8
hidden = 8
[plan]
epochs = 6
batch = 8
rate = 3e-3
ema = 0.9
precision = "float32"
[plan.slow]
"fc1.weight" = 0.05
"""
STAGE_STUDENT = """
kind = "student"
[model]
ridge = 10.0
frozen_stages = 2
[model.architecture]
backbone = "test_efficientnet"
backbone_args = { channel_multiplier = 0.5 }
input_size = 128
statistics_channels = 1
pooling = "stages"
hidden = 8
[loss]
unit = "deviation"
ranking = 0.0
correlation = 1.0
teacher_map = 0.0
teacher_score = 0.5
[loss.distorted]
share = 0.5
weight = 0.2
[plan]
epochs = 2
batch = 8
crop = 64
rate = 3e-3
ema = 0.9
precision = "float32"
[plan.slow]
"base_model." = 0.1
"""
VAE = """
kind = "vae"
input_size = 64
[model]
architecture = { channels = [4, 8], layers_per_block = 1, norm_groups = 2, middle_attention = false }
[plan]
epochs = 6
batch = 8
rate = 3e-3
ema = 0.0
crop = 32
"""
DIFFUSION = """
kind = "diffusion"
[model.architecture]
input_size = 64
prompts = "small-90"
vae = { channels = [4, 8], layers_per_block = 1, norm_groups = 2, middle_attention = false }
[model.architecture.unet]
channels = [8, 8, 16, 16]
layers_per_block = 1
heads = 2
text_width = 8
norm_groups = 4
self_attention = [false, false, true, true]
[plan]
epochs = 6
batch = 8
rate = 3e-3
ema = 0.9
precision = "float32"
"""
TEACHER = """
kind = "teacher"
[model]
begin = "pooling"
normalise_decoder = true
calibrate_on = 16
[model.architecture]
input_size = 64
prompts = "small-90"
vae = { channels = [4, 8], layers_per_block = 1, norm_groups = 2, middle_attention = false }
qfd = { width = 8, squeeze = 2, score_widths = [8, 8], map_channels = 4, map_size = 8, hidden = 8 }
[model.architecture.unet]
channels = [8, 8, 16, 16]
layers_per_block = 1
heads = 2
text_width = 8
norm_groups = 4
self_attention = [false, false, true, true]
[plan]
epochs = 6
batch = 8
rate = 3e-3
ema = 0.9
precision = "float32"
"""
STAGE_TEACHER = """
kind = "teacher"
[model]
trunk_from = "first"
head_from = "first"
normalise_decoder = true
calibrate_on = 16
[model.architecture]
input_size = 128
shrink = 4
prompts = "small-90"
vae = { channels = [4, 8], layers_per_block = 1, norm_groups = 2, middle_attention = false }
[model.architecture.student]
backbone = "test_efficientnet"
backbone_args = { channel_multiplier = 0.5 }
input_size = 128
statistics_channels = 1
pooling = "stages"
hidden = 8
[model.architecture.unet]
channels = [8, 8, 16, 16]
layers_per_block = 1
heads = 2
text_width = 8
norm_groups = 4
self_attention = [false, false, true, true]
[model.architecture.qfd]
width = 8
squeeze = 2
score_widths = [8, 8]
map_channels = 4
map_size = 8
pooling = "moments"
[loss]
unit = "deviation"
[loss.distorted]
share = 0.5
weight = 0.2
[plan]
epochs = 3
batch = 4
rate = 3e-3
ema = 0.9
precision = "float32"
"""


def make_set(folder, count=24, size=64):
    """Write pictures whose label falls with their blur; returns the labels file."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "mos", "split", "near_duplicate_group", "subset"])
        for number in range(count):
            blur = number % 6
            picture = Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8))
            picture.filter(ImageFilter.GaussianBlur(0.7 * blur)).save(folder / f"{number}.png")
            split = "val" if number >= count * 2 // 3 else "train"
            writer.writerow([f"{number}.png", 0.9 - 0.15 * blur, split, "", "made"])
    return folder / "labels.csv"


def publish_stage_student(folder, name="first", **changes):
    """Write a model of `STAGE_TEACHER`'s student, with random weights, into a models folder; returns its network."""
    sizes = tomllib.loads(STAGE_TEACHER)["model"]["architecture"]["student"] | changes
    torch.manual_seed(7)
    student = StageStudent(StudentConfig.model_validate(sizes)).eval()
    torch.nn.init.normal_(student.linear.weight, std=0.003)  # it begins as zero
    torch.nn.init.constant_(student.linear.bias, 0.5)
    export_model(student, student.config, name, folder, half=False, licence="Apache-2.0")
    return student


def waves(count):
    """Give smooth pictures of 64 pixels, (count, 64, 64, 3) uint8."""
    y, x = np.mgrid[0:64, 0:64]
    patterns = [np.sin(x / (3 + number)) + np.cos(y / (4 + number)) for number in range(count)]
    return np.stack([np.repeat((128 + 50 * pattern).astype(np.uint8)[..., None], 3, axis=2) for pattern in patterns])


class Toy:
    """Learns a plane through noise, with dropout and batch statistics: all that a resumed run could get wrong."""

    def __init__(self, plan, *, dropout=0.3, merits=None, diverge_at=None):
        torch.manual_seed(plan.seed)
        self.network = nn.Sequential(
            nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 1)
        )
        rng = np.random.default_rng(7)
        self.inputs = rng.standard_normal((64, 4)).astype(np.float32)
        self.targets = self.inputs @ np.array([1.0, -2.0, 0.5, 0.0], dtype=np.float32)
        self.plan, self.merits, self.diverge_at, self.calls = plan, list(merits or ()), diverge_at, 0

    def batches(self, rng):
        return shuffled_batches(np.arange(64), self.plan.batch, rng)

    def loss(self, network, rows, rng):
        self.calls += 1
        noise = torch.from_numpy(rng.standard_normal((len(rows), 4)).astype(np.float32)) * 0.1
        scores = network(torch.from_numpy(self.inputs[rows]) + noise).squeeze(1)
        error = (scores - torch.from_numpy(self.targets[rows])).square().mean()
        return {"squared": error * float("nan") if self.diverge_at == self.calls else error}

    def validate(self, network):
        error = float((network(torch.from_numpy(self.inputs)).squeeze(1) - torch.from_numpy(self.targets)).std())
        return Validation(merit=self.merits.pop(0) if self.merits else -error, figures={"error": error})


def toy_plan(**changes):
    return Plan(**{"epochs": 3, "batch": 8, "rate": 1e-2, "precision": "float32", "validate_every_steps": 5} | changes)
