"""Small checkpoints as authors publish them: their names, their files, seeded weights."""

import torch
from torchvision.models import efficientnet_b0

from dpiqa.models.quality_decoder import QfdConfig
from dpiqa.models.student_config import StudentConfig
from dpiqa.models.teacher import TeacherConfig, UnetConfig, build_teacher
from dpiqa.models.vae import VaeConfig, build_autoencoder

#: A student on the smallest backbone that torchvision and timm both have.
STUDENT = StudentConfig(
    backbone="efficientnet_b0", batchnorm_eps=1e-5, input_size=64, map_channels=4, map_size=8, hidden=8
)
#: A teacher with every part that the published one has: attention in the VAE, T2I-Adapter, given text embeddings.
TEACHER = TeacherConfig(
    input_size=64,
    vae=VaeConfig(channels=(4, 8), layers_per_block=1, norm_groups=2),
    unet=UnetConfig(channels=(8, 8, 16, 16), layers_per_block=1, heads=2, text_width=8, norm_groups=4),
    qfd=QfdConfig(width=8, squeeze=2, score_widths=(8, 8), map_channels=4, map_size=8, hidden=8),
)


def student_state_dict():
    """Return torchvision's names for the backbone, the authors' for the head."""
    torch.manual_seed(0)
    features = efficientnet_b0(weights=None).features.state_dict()
    head = {
        "conv_transpose": torch.nn.ConvTranspose2d(1280, STUDENT.map_channels, 3, stride=2, padding=1),
        "fc1": torch.nn.Linear(STUDENT.map_channels * STUDENT.map_size**2, STUDENT.hidden),
        "fc2": torch.nn.Linear(STUDENT.hidden, STUDENT.hidden),
        "fc3": torch.nn.Linear(STUDENT.hidden, 1),
    }
    tensors = {
        f"{layer_name}.{name}": value
        for layer_name, layer in head.items()
        for name, value in layer.state_dict().items()
    }
    return {f"base_model.features.{name}": value for name, value in features.items()} | tensors


def teacher_state_dict():
    """Return a state dict with the parts that no score uses, and without text embeddings."""
    torch.manual_seed(0)
    tensors = build_teacher(TEACHER).state_dict()
    own = {name: value for name, value in tensors.items() if not name.startswith("prompts.")}
    autoencoder = {f"vae.{name}": value for name, value in build_autoencoder(TEACHER.vae).state_dict().items()}
    unused = {"QFD.bnc1.weight": torch.ones(8), "QFD.classifier_dist.weight": torch.ones(24, 8)}
    return autoencoder | own | unused


def with_old_attention(published):
    """Return the names that diffusers gave the VAE's attention until 0.17, when it was made of 1x1 convolutions."""
    old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    renamed = {}
    for name, value in published.items():
        new = next((new for new in old if new in name), None) if name.startswith("vae.") else None
        as_convolution = new is not None and value.ndim == 2
        renamed[name.replace(new, old[new]) if new else name] = value[:, :, None, None] if as_convolution else value
    return renamed


def as_trained_in_parallel(published):
    """Return the dict that training scripts save: `module.` before every name, figures beside the weights."""
    return {"state_dict": {f"module.{name}": value for name, value in published.items()}, "epoch": 49}
