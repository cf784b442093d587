"""Image adapters: features of the picture for the U-Net, besides its latents.

The published teacher uses the T2I-Adapter, trained together with a pre-trained U-Net. Without a pre-trained U-Net the
picture's quality has to come from elsewhere: `TrunkAdapter` takes it from the trunk of a trained student.
"""

from itertools import accumulate
from operator import mul
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.adapter import FullAdapter
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from dpiqa.models.backbone import build_backbone, stage_stride, stage_width

STRIDES = (8, 16, 32)  #: of the trunk's features; the fourth map is the third at half its size


class TrunkConfig(BaseModel):
    """Sizes of the CNN under an adapter: those of a student's backbone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backbone: str
    backbone_args: dict[str, Any] = Field(default_factory=dict)
    batchnorm_eps: float = 1e-3


class TrunkAdapter(nn.Module):
    """Features of a frozen CNN, projected to the widths of the U-Net's down blocks.

    Forward: (B, 3, S, S) in [0, 1] -> four maps of S/8, S/16, S/32 and S/64 cells a side, as the T2I-Adapter's.
    """

    def __init__(self, config: TrunkConfig, channels: tuple[int, ...]) -> None:
        super().__init__()
        trunk: Any = build_backbone(config.backbone, config.backbone_args, config.batchnorm_eps)
        self.trunk = trunk.requires_grad_(requires_grad=False)
        strides = list(accumulate(map(stage_stride, trunk.blocks), mul, initial=2))[1:]  # 2: of the stem
        last_of = {stride: stage for stage, stride in enumerate(strides)}
        self._stages = [last_of[stride] for stride in STRIDES]
        widths = [stage_width(trunk.blocks[stage]) for stage in self._stages]
        self.project = nn.ModuleList(
            nn.Conv2d(width, out, 1) for width, out in zip([*widths, widths[-1]], channels, strict=True)
        )

    def train(self, mode: bool = True) -> "TrunkAdapter":
        """Train the projections; the trunk keeps its statistics."""
        super().train(mode)
        self.trunk.eval()
        return self

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """See the class."""
        features = self.trunk.bn1(self.trunk.conv_stem(images))
        outputs = [features := stage(features) for stage in self.trunk.blocks]
        maps = [outputs[stage] for stage in self._stages]
        maps.append(F.avg_pool2d(maps[-1], 2))
        return [project(features) for project, features in zip(self.project, maps, strict=True)]


def build_adapter(trunk: TrunkConfig | None, channels: tuple[int, ...], reduction: int) -> nn.Module:
    """Build the T2I-Adapter of the published teacher, or one on a `trunk`."""
    if trunk is not None:
        return TrunkAdapter(trunk, channels)
    adapter: nn.Module = FullAdapter(channels=list(channels), num_res_blocks=2, downscale_factor=reduction)
    return adapter
