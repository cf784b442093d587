"""The DP-IQA student: EfficientNet features, a transposed convolution, and a regressor over an 8x64x64 feature map.

Written from the paper (Fu et al., DP-IQA, section 3.4) and checked against the published checkpoints' outputs.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from dpiqa.models.backbone import build_backbone


class StudentConfig(BaseModel):
    """Sizes of a student. The defaults are the published model's (81 M parameters)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backbone: str = "efficientnet_b7"  #: any timm EfficientNet of stride 32
    backbone_args: dict[str, Any] = Field(default_factory=dict)  #: further arguments of timm's builder
    batchnorm_eps: float = 1e-3
    input_size: int = 512  #: pixels a side
    view_size: int | None = None  #: score = mean over views of so many pixels a side; None: the whole picture at once
    map_channels: int = 8
    map_size: int = 64  #: cells a side
    hidden: int = 512


class Student(nn.Module):
    """Backbone and head. The head's names are those of the published state dicts."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.config = config
        self.base_model: Any = build_backbone(config.backbone, config.backbone_args, config.batchnorm_eps)
        features = cast("int", self.base_model.num_features)
        self.conv_transpose = nn.ConvTranspose2d(
            features, config.map_channels, 3, stride=2, padding=1, output_padding=1
        )
        self.fc1 = nn.Linear(config.map_channels * config.map_size**2, config.hidden)
        self.fc2 = nn.Linear(config.hidden, config.hidden)
        self.fc3 = nn.Linear(config.hidden, 1)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 3, S, S) in [0, 1], not normalised -> scores (B,), feature map (B, map_channels, m, m).

        `m` is `map_size` at the configured input size and shrinks with the input; the regressor always sees `map_size`.
        """
        features = F.relu(self.conv_transpose(self.base_model(images)))
        side = self.config.map_size * images.shape[-1] // self.config.input_size
        feature_map = resize_nearest(features, side)
        return self.regress(feature_map), feature_map

    def regress(self, feature_map: torch.Tensor) -> torch.Tensor:
        """Feature map (B, map_channels, m, m) -> scores (B,)."""
        hidden = resize_nearest(feature_map, self.config.map_size).flatten(1)
        hidden = F.relu(self.fc1(hidden))
        hidden = F.relu(self.fc2(hidden))
        score: torch.Tensor = self.fc3(hidden)
        return score.squeeze(1)


def resize_nearest(features: torch.Tensor, side: int) -> torch.Tensor:
    """(B, C, s, s) -> (B, C, side, side)."""
    return features if features.shape[-1] == side else F.interpolate(features, size=(side, side), mode="nearest")
