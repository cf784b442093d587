"""EfficientNets as parts of scoring networks: without pooling and classifier, stage by stage."""

import math
from typing import Any

from torch import nn

from dpiqa.models.efficientnet import DESIGNS, EfficientNet


def build_backbone(name: str, arguments: dict[str, Any], batchnorm_eps: float) -> nn.Module:
    """Build an EfficientNet of stride 32 without pooling and classifier: (B, 3, S, S) -> (B, C, S/32, S/32).

    It has the attributes `conv_stem`, `bn1`, `blocks` (the stages), `conv_head`, `bn2` and `num_features`. `name` and
    `arguments`: of timm, which is imported only for networks that our own models do not have.
    """
    if name in DESIGNS and arguments.keys() <= {"channel_multiplier"}:
        backbone: nn.Module = EfficientNet(DESIGNS[name], **arguments)
    else:
        import timm  # noqa: PLC0415 - see `dpiqa.models.efficientnet`

        backbone = timm.create_model(name, num_classes=0, global_pool="", **arguments)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = batchnorm_eps
    return backbone


def stage_width(stage: nn.Module) -> int:
    """Return the number of channels that a stage of an EfficientNet puts out: those of its last convolution."""
    return [module.out_channels for module in stage.modules() if isinstance(module, nn.Conv2d)][-1]


def stage_stride(stage: nn.Module) -> int:
    """Return by how much a stage of an EfficientNet divides the size of its maps."""
    return math.prod(module.stride[0] for module in stage.modules() if isinstance(module, nn.Conv2d))
