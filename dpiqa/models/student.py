"""The DP-IQA student: EfficientNet features, a transposed convolution, and a regressor over an 8x64x64 feature map.

`Student` is the published network, written from the paper (Fu et al., DP-IQA, section 3.4) and checked against the
published checkpoints' outputs. `SmallStudent` is this project's own, and so is `dpiqa.models.stage_student`.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn

from dpiqa.models.backbone import build_backbone
from dpiqa.models.regressor import CellReader, MapPooling, MapRegressor, build_reader, resize_nearest
from dpiqa.models.scene_statistics import StatisticsBranch, scene_statistics
from dpiqa.models.scoring_network import ScoringNetwork, shrunk
from dpiqa.models.stage_student import StageStudent
from dpiqa.models.student_config import StudentConfig


def build_student(config: StudentConfig) -> "Student | StageStudent":
    """Build the network of these sizes, with random weights."""
    return StageStudent(config) if config.pooling is MapPooling.STAGES else build_map_student(config)


def build_map_student(config: StudentConfig) -> "Student":
    """Build a network of these sizes that reads a quality map, with random weights."""
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
