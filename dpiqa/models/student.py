"""The DP-IQA student: EfficientNet features, a transposed convolution, and a regressor over an 8x64x64 feature map.

`Student` is the published network, written from the paper (Fu et al., DP-IQA, section 3.4) and checked against the
published checkpoints' outputs. `SmallStudent` is this project's own.
"""

from typing import Any, cast

import timm
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, model_validator
from torch import nn

from dpiqa.models.regressor import CellReader, MapPooling, MapRegressor, build_reader, resize_nearest
from dpiqa.models.scene_statistics import StatisticsBranch, check_size, scene_statistics
from dpiqa.models.scoring_network import ScoringNetwork, shrunk


class StudentConfig(BaseModel):
    """Sizes of a student, published or our own. The defaults are the published model's (81 M parameters)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backbone: str = "efficientnet_b7"  #: any timm EfficientNet of stride 32
    backbone_args: dict[str, Any] = Field(default_factory=dict)  #: further arguments of timm's builder
    batchnorm_eps: float = 1e-3
    input_size: int = 512  #: pixels a side
    view_size: int | None = None  #: score = mean over views of so many pixels a side; None: the whole picture at once
    shrink: PositiveInt = 1  #: pixels a side that are averaged to one before the backbone sees the picture
    map_channels: int = 8  #: of the feature map, from the backbone
    statistics_channels: NonNegativeInt = 0  #: further ones, from scene statistics at the picture's own size
    map_size: int = 64  #: cells a side
    pooling: MapPooling = MapPooling.CELLS
    dropout: float = Field(0, ge=0, lt=1)  #: of the first hidden units, and a third of it of what the regressor sees
    hidden: int = 512

    @model_validator(mode="after")
    def _cells_fit(self) -> "StudentConfig":
        check_size(self.statistics_channels, self.input_size)
        return self

    @property
    def is_published(self) -> bool:
        """Return whether `Student` is the network of these sizes; otherwise `SmallStudent` is."""
        return self.shrink == 1 and not self.statistics_channels and self.pooling is MapPooling.CELLS

    @property
    def channels(self) -> int:
        """Number of channels of the whole feature map."""
        return self.map_channels + self.statistics_channels


def build_student(config: StudentConfig) -> "Student":
    """Build the network of these sizes, with random weights."""
    return Student(config) if config.is_published else SmallStudent(config)


class Student(MapRegressor, ScoringNetwork):
    """The published student. The head's names are those of the published state dicts."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.config, self.view_size = config, config.view_size
        self.base_model: Any = build_backbone(config.backbone, config.backbone_args, config.batchnorm_eps)
        features = cast("int", self.base_model.num_features)
        self.conv_transpose = nn.ConvTranspose2d(
            features, config.map_channels, 3, stride=2, padding=1, output_padding=1
        )
        self._add_head()

    def _add_head(self) -> None:
        config = self.config
        if not config.is_published:
            raise ValueError("these sizes are not the published student's: `build_student` chooses the network")
        reader = CellReader(config.map_channels, config.map_size, config.dropout / 3)
        self.add_regressor(reader, config.hidden, config.dropout)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Score images.

        Args:
            images: (B, 3, S, S) in [0, 1], not normalised; S a multiple of 32.

        Returns:
            Scores (B,), MOS/100, not clamped, and the feature map (B, C, m, m), not negative, where m is `map_size`
            at the configured input size and shrinks with the input.
        """
        feature_map = self.backbone_map(images, self.map_side(images))
        return self.regress(feature_map), feature_map

    def map_side(self, images: torch.Tensor) -> int:
        """Return the side m of the feature map of images (B, 3, S, S)."""
        return self.config.map_size * images.shape[-1] // self.config.input_size

    def backbone_map(self, images: torch.Tensor, side: int) -> torch.Tensor:
        """Images (B, 3, s, s) in [0, 1] -> (B, `map_channels`, side, side), not negative."""
        features = F.relu(self.conv_transpose(self.base_model(images.to(self.conv_transpose.weight.dtype))))
        return resize_nearest(features, side)


class SmallStudent(Student):
    """Our own student, for little data and a CPU.

    Its backbone sees the picture smaller; further channels of the map come from scene statistics at the picture's own
    size; its regressor may read moments instead of cells.
    """

    def _add_head(self) -> None:
        config = self.config
        self.statistics = StatisticsBranch(config.statistics_channels) if config.statistics_channels else None
        reader = build_reader(config.pooling, config.channels, config.map_size, config.dropout / 3)
        self.add_regressor(reader, config.hidden, config.dropout)

    @property
    def input_dtype(self) -> torch.dtype:
        """float32 where it looks at differences of neighbouring pixels."""
        return super().input_dtype if self.statistics is None else torch.float32

    def forward(
        self, images: torch.Tensor, statistics: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Score images, as `Student.forward` does.

        Args:
            images: (B, 3, S, S) in [0, 1], not normalised; S a multiple of 32 times `shrink`, and of `CELL` of
                `dpiqa.models.scene_statistics` where there are channels of statistics.
            statistics: those of `images`, if they are known already, as `scene_statistics` returns them.

        Returns:
            Scores (B,), and the feature map (B, C + statistics channels, m, m).
        """
        side = self.map_side(images)
        feature_map = self.backbone_map(shrunk(images, self.config.shrink), side)
        if self.statistics is not None:
            statistics = scene_statistics(images) if statistics is None else statistics
            feature_map = torch.cat([feature_map, resize_nearest(self.statistics(statistics), side)], dim=1)
        return self.regress(feature_map), feature_map


def build_backbone(name: str, arguments: dict[str, Any], batchnorm_eps: float) -> nn.Module:
    """Build timm's EfficientNet of stride 32 without pooling and classifier: (B, 3, S, S) -> (B, C, S/32, S/32)."""
    backbone: nn.Module = timm.create_model(name, num_classes=0, global_pool="", **arguments)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = batchnorm_eps
    return backbone
