"""Image adapters: features of the picture for the U-Net, besides its latents.

The published teacher uses the T2I-Adapter, trained together with a pre-trained U-Net. Without a pre-trained U-Net the
picture's quality has to come from elsewhere: `TrunkAdapter` takes it from the trunk of a trained student, and
`StageAdapter` from the stages of one that reads every stage, which the teacher's regressor reads, too.
"""

from collections.abc import Sequence
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
        self._stages = last_stages(trunk)
        self.project = _projections(trunk, channels)

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


class StageAdapter(nn.Module):
    """Maps of a student's stages, averaged to the cells of the U-Net's levels, and projected to their widths.

    Its student sees the picture at its own size, so that its maps are finer than the levels. Forward: `pooled` maps ->
    four maps of `side`, `side` / 2, `side` / 4 and `side` / 8 cells a side.
    """

    def __init__(self, backbone: Any, channels: tuple[int, ...]) -> None:
        super().__init__()
        self._stages = last_stages(backbone)
        self.project = _projections(backbone, channels)

    def pooled(self, maps: Sequence[torch.Tensor], side: int) -> tuple[torch.Tensor, ...]:
        """Return what `forward` takes, three maps, of those of all stages. `side`: cells of the U-Net's first level."""
        used = (maps[stage] for stage in self._stages)
        return tuple(F.adaptive_avg_pool2d(features, side >> level) for level, features in enumerate(used))

    def forward(self, maps: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """See the class."""
        every = [*maps, F.avg_pool2d(maps[-1], 2)]
        return [project(features) for project, features in zip(self.project, every, strict=True)]


def last_stages(backbone: Any) -> list[int]:
    """Return the number of the last stage of each of `STRIDES`."""
    strides = list(accumulate(map(stage_stride, backbone.blocks), mul, initial=2))[1:]  # 2: of the stem
    last_of = {stride: stage for stage, stride in enumerate(strides)}
    return [last_of[stride] for stride in STRIDES]


def _projections(backbone: Any, channels: tuple[int, ...]) -> nn.ModuleList:
    widths = [stage_width(backbone.blocks[stage]) for stage in last_stages(backbone)]
    pairs = zip([*widths, widths[-1]], channels, strict=True)
    return nn.ModuleList(nn.Conv2d(width, out, 1) for width, out in pairs)


def build_adapter(trunk: TrunkConfig | None, channels: tuple[int, ...], reduction: int) -> nn.Module:
    """Build the T2I-Adapter of the published teacher, or one on a `trunk`."""
    if trunk is not None:
        return TrunkAdapter(trunk, channels)
    adapter: nn.Module = FullAdapter(channels=list(channels), num_res_blocks=2, downscale_factor=reduction)
    return adapter
