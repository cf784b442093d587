"""The DP-IQA student: EfficientNet features, a transposed convolution, and a regressor over an 8x64x64 feature map.

Written from the paper (Fu et al., DP-IQA, section 3.4) and checked against the published checkpoints' outputs. What is
ours, and off unless the sizes ask for it: channels of the map that come from scene statistics, a backbone that sees the
picture smaller, and a regressor over the channels' moments.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, model_validator
from torch import nn

from dpiqa.models.backbone import build_backbone
from dpiqa.models.regressor import MapReader, Pooling, resize_nearest
from dpiqa.models.shrink import shrunk
from dpiqa.models.statistics import StatisticsBranch, check_size, scene_statistics


class StudentConfig(BaseModel):
    """Sizes of a student. The defaults are the published model's (81 M parameters)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backbone: str = "efficientnet_b7"  #: any timm EfficientNet of stride 32
    backbone_args: dict[str, Any] = Field(default_factory=dict)  #: further arguments of timm's builder
    batchnorm_eps: float = 1e-3
    input_size: int = 512  #: pixels a side
    view_size: int | None = None  #: score = mean over views of so many pixels a side; None: the whole picture at once
    shrink: PositiveInt = 1  #: pixels a side that are averaged to one before the backbone sees the picture
    map_channels: int = 8  #: of the feature map, from the backbone
    statistics_channels: NonNegativeInt = 0  #: further ones, from `dpiqa.models.statistics` at the picture's own size
    map_size: int = 64  #: cells a side
    pooling: Pooling = Pooling.CELLS
    dropout: float = Field(0, ge=0, lt=1)  #: of the first hidden units, and a third of it of what the regressor sees
    hidden: int = 512

    @model_validator(mode="after")
    def _cells_fit(self) -> "StudentConfig":
        check_size(self.statistics_channels, self.input_size)
        return self

    @property
    def channels(self) -> int:
        """Of the whole feature map."""
        return self.map_channels + self.statistics_channels


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
        self.statistics = StatisticsBranch(config.statistics_channels) if config.statistics_channels else None
        self.reader = MapReader(config.channels, config.map_size, config.pooling, config.dropout / 3)
        self.fc1 = nn.Linear(self.reader.width, config.hidden)
        self.fc2 = nn.Linear(config.hidden, config.hidden)
        self.fc3 = nn.Linear(config.hidden, 1)

    @property
    def wants_float32(self) -> bool:
        """Whether pictures must come in float32, whatever the weights are in."""
        return self.statistics is not None

    def forward(
        self, images: torch.Tensor, statistics: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 3, S, S) in [0, 1], not normalised -> scores (B,), feature map (B, channels, m, m).

        `m` is `map_size` at the configured input size and shrinks with the input. `statistics`: those of `images`, if
        they are known already.
        """
        config = self.config
        seen = shrunk(images, config.shrink).to(self.conv_transpose.weight.dtype)
        features = F.relu(self.conv_transpose(self.base_model(seen)))
        side = config.map_size * images.shape[-1] // config.input_size
        feature_map = resize_nearest(features, side)
        if self.statistics is not None:
            known = scene_statistics(images) if statistics is None else statistics
            feature_map = torch.cat([feature_map, resize_nearest(self.statistics(known), side)], dim=1)
        return self.regress(feature_map), feature_map

    def regress(self, feature_map: torch.Tensor) -> torch.Tensor:
        """Feature map (B, channels, m, m) -> scores (B,)."""
        hidden = F.relu(self.fc1(self.reader(feature_map)))
        hidden = F.relu(self.fc2(F.dropout(hidden, self.config.dropout, self.training)))
        score: torch.Tensor = self.fc3(hidden)
        return score.squeeze(1)
