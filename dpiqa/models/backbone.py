"""EfficientNets of timm as parts of scoring networks: without pooling and classifier, stage by stage."""

from typing import Any

import timm
from torch import nn


def build_backbone(name: str, arguments: dict[str, Any], batchnorm_eps: float) -> nn.Module:
    """Build timm's EfficientNet of stride 32 without pooling and classifier: (B, 3, S, S) -> (B, C, S/32, S/32)."""
    backbone: nn.Module = timm.create_model(name, num_classes=0, global_pool="", **arguments)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = batchnorm_eps
    return backbone


def stage_width(stage: nn.Module) -> int:
    """Return the number of channels that a stage of an EfficientNet puts out: those of its last convolution."""
    return [module.out_channels for module in stage.modules() if isinstance(module, nn.Conv2d)][-1]
