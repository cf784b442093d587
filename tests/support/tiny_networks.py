"""A student and a teacher of the published shapes, but tiny."""

from pathlib import Path

import torch

from dpiqa.models.quality_decoder import QfdConfig
from dpiqa.models.student import build_student
from dpiqa.models.student_config import StudentConfig
from dpiqa.models.teacher import TeacherConfig, UnetConfig, build_teacher
from dpiqa.models.vae import VaeConfig
from dpiqa.training.runs.publish import export_model

TINY_STUDENT = StudentConfig(
    backbone="test_efficientnet",
    backbone_args={"channel_multiplier": 0.5},
    input_size=64,
    map_channels=4,
    map_size=8,
    hidden=8,
)
TINY_TEACHER = TeacherConfig(
    input_size=64,
    vae=VaeConfig(channels=(4, 8), layers_per_block=1, norm_groups=2, middle_attention=False),
    unet=UnetConfig(
        channels=(8, 8, 16, 16),
        layers_per_block=1,
        heads=2,
        text_width=8,
        norm_groups=4,
        self_attention=(False, False, True, True),
    ),
    qfd=QfdConfig(width=8, squeeze=2, score_widths=(8, 8), map_channels=4, map_size=8, hidden=8),
    prompts="small-90",
)


def tiny_student():
    torch.manual_seed(0)
    return build_student(TINY_STUDENT).eval()


def tiny_teacher():
    torch.manual_seed(0)
    return build_teacher(TINY_TEACHER).eval()


def write_tiny_models(folder: Path) -> Path:
    """Make a user's models folder with `small-student` and `small-teacher`."""
    export_model(tiny_student(), TINY_STUDENT, "small-student", folder, licence="Apache-2.0")
    export_model(tiny_teacher(), TINY_TEACHER, "small-teacher", folder, licence="Apache-2.0")
    return folder
