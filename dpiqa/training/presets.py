"""The sizes and plans of the bundled models: small enough for two CPU cores and 30 MB."""

from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.models.adapter import TrunkConfig
from dpiqa.models.qfd import QfdConfig
from dpiqa.models.student import StudentConfig
from dpiqa.models.teacher import TeacherConfig, UnetConfig
from dpiqa.models.vae import VaeConfig
from dpiqa.training.loop import Plan
from dpiqa.training.vae import VaeTraining

PREPROCESSING = Preprocessing(width=512, height=512)

#: Both quality maps are 16x32x32, so that the student can copy the teacher's.
STUDENT = StudentConfig(
    backbone="test_efficientnet",  # fused blocks: five times the training speed of depthwise ones on a CPU
    backbone_args={"channel_multiplier": 1.5},
    map_channels=16,
    map_size=32,
    hidden=64,
)
STUDENT_PLAN = Plan(epochs=18, batch=32, rate=2e-3)
DISTILLATION_PLAN = Plan(epochs=14, batch=32, rate=1e-3)

TEACHER = TeacherConfig(
    view_size=256,  # the size of the crops it is trained on
    trunk=TrunkConfig(backbone=STUDENT.backbone, backbone_args=STUDENT.backbone_args),
    vae=VaeConfig(channels=(8, 16, 32, 48), layers_per_block=1, norm_groups=4, middle_attention=False),
    unet=UnetConfig(
        channels=(48, 64, 96, 128),
        layers_per_block=1,
        heads=2,
        text_width=48,
        norm_groups=8,
        self_attention=(False, False, True, True),
    ),
    qfd=QfdConfig(width=48, squeeze=4, score_widths=(32, 32), map_channels=16, map_size=32, hidden=64),
    prompts="small-90",
)
VAE_TRAINING = VaeTraining(minutes=7)
TEACHER_PLAN = Plan(epochs=4, batch=16, rate=6e-4, crop=256, ema=0.99, validate_every=1)
