"""What of a teacher learns, by mode (DP-IQA, Table XIII), and how low-rank changes come and go."""

from typing import Any

import torch
from torch import nn

from dpiqa.models.teacher import Teacher
from dpiqa.training.config import TeacherMode

#: The U-Net's attention projections: where low-rank changes are usually made in Stable Diffusion.
LORA_TARGETS = ("to_q", "to_k", "to_v", "to_out.0")


def apply_mode(teacher: Teacher, mode: TeacherMode, *, lora_rank: int, fresh: bool) -> None:
    """Let learn what the mode lets learn, and nothing else.

    In a `fresh` teacher whose adapters do not learn they are silenced: random ones would only disturb the U-Net.
    """
    teacher.requires_grad_(requires_grad=False)
    teacher.QFD.requires_grad_(requires_grad=True)
    if mode.adapters:
        _learn_adapters(teacher)
    elif fresh:
        silence_adapters(teacher)
    if mode is TeacherMode.FULL:
        teacher.unet.requires_grad_(requires_grad=True)
        for unused in (teacher.unet.conv_norm_out, teacher.unet.conv_out):  # no score passes through them
            unused.requires_grad_(requires_grad=False)
    if mode.lora:
        _add_lora(teacher, lora_rank)


def merge_lora(teacher: Teacher) -> None:
    """Add what the low-rank changes learned to the U-Net's weights, and give it back its published names."""
    if getattr(teacher.unet, "peft_config", None):
        teacher.unet.fuse_lora()
        teacher.unet.unload_lora()


def silence_adapters(teacher: Teacher) -> None:
    """Make the adapters add nothing: the U-Net sees its latents and the bare prompts."""
    adapter = getattr(teacher.img_adapter, "project", teacher.img_adapter)
    with torch.no_grad():
        teacher.gamma.zero_()
        for parameter in adapter.parameters():
            parameter.zero_()


def _learn_adapters(teacher: Teacher) -> None:
    teacher.gamma.requires_grad = True
    parts: tuple[nn.Module, ...] = (teacher.prompts, teacher.text_adapter, teacher.img_adapter)
    for part in parts:
        part.requires_grad_(requires_grad=True)
    trunk = getattr(teacher.img_adapter, "trunk", None)
    if trunk is not None:
        trunk.requires_grad_(requires_grad=False)


def _add_lora(teacher: Teacher, rank: int) -> None:
    from peft import LoraConfig  # noqa: PLC0415 - of the extra `train`

    unet: Any = teacher.unet
    unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=list(LORA_TARGETS)))
