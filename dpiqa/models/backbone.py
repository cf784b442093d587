"""The CNN of students and trunks, by timm."""

from typing import Any

import timm
from torch import nn


def build_backbone(name: str, arguments: dict[str, Any], batchnorm_eps: float) -> nn.Module:
    """Build an EfficientNet of stride 32 without pooling and classifier: (B, 3, S, S) -> (B, C, S/32, S/32)."""
    backbone: nn.Module = timm.create_model(name, num_classes=0, global_pool="", **arguments)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = batchnorm_eps
    return backbone
