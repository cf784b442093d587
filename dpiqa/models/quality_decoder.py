"""The quality feature decoder: four maps of the U-Net become one quality map and a score (DP-IQA, section 3.3).

`QualityFeatureDecoder` is the published one, `SmallDecoder` and `AddingDecoder` this project's own.
"""

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, field_validator
from torch import nn

from dpiqa.models.regressor import CellReader, MapPooling, MapRegressor, MomentReader, build_reader, resize_nearest
from dpiqa.models.scene_statistics import StatisticsBranch
from dpiqa.models.stage_student import FurtherInputs


class QfdConfig(BaseModel):
    """Sizes of the decoder, published or our own. The defaults are the published model's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = 512
    squeeze: int = 16  #: reduction of the squeeze-and-excite blocks
    score_widths: tuple[int, int] = (128, 32)
    map_channels: int = 8  #: of the quality map, from the U-Net
    statistics_channels: NonNegativeInt = 0  #: further ones, from scene statistics
    map_size: int = 64  #: cells a side
    pooling: MapPooling = MapPooling.CELLS
    dropout: float = Field(0, ge=0, lt=1)  #: of the first hidden units, and a third of it of what the regressor sees
    hidden: int = 512

    @field_validator("pooling")
    @classmethod
    def _of_a_map(cls, pooling: MapPooling) -> MapPooling:
        if pooling is MapPooling.STAGES:
            raise ValueError('pooling = "stages" reads a backbone; a decoder has a map: choose "cells" or "moments"')
        return pooling

    @property
    def is_published(self) -> bool:
        """Return whether `QualityFeatureDecoder` is the decoder of these sizes; otherwise `SmallDecoder` is."""
        return not self.statistics_channels and self.pooling is MapPooling.CELLS


class SqueezeExcite(nn.Module):
    """Weighs channels by their mean over the picture."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, channels // reduction, bias=False),
            nn.ReLU(),
            nn.Linear(channels // reduction, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        weights: torch.Tensor = self.fc(features.mean(dim=(2, 3)))
        return features * weights[:, :, None, None]


def build_decoder(channels: tuple[int, ...], config: QfdConfig) -> "QualityFeatureDecoder":
    """Build the decoder of these sizes. `channels`: of the U-Net's maps, finest first."""
    return QualityFeatureDecoder(channels, config) if config.is_published else SmallDecoder(channels, config)


class QualityFeatureDecoder(MapRegressor):
    """The published decoder. Names of the layers are those of the published state dicts."""

    def __init__(self, channels: tuple[int, ...], config: QfdConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        for level, channels_in in enumerate(channels, start=1):
            self.add_module(f"conv{level}", nn.Conv2d(channels_in, width, 3, padding=1))
            self.add_module(f"se{level}", SqueezeExcite(width, config.squeeze))
        self.levels = len(channels)
        self.fuse_conv = nn.Conv2d(self.levels * width, width, 3, padding=1)
        self.se_fuse = SqueezeExcite(width, config.squeeze)
        self.conv_score1 = nn.Conv2d(width, config.score_widths[0], 1)
        self.conv_score2 = nn.Conv2d(config.score_widths[0], config.score_widths[1], 1)
        self.conv_score3 = nn.Conv2d(config.score_widths[1], config.map_channels, 1)
        self._add_head()

    def _add_head(self) -> None:
        config = self.config
        if not config.is_published:
            raise ValueError("these sizes are not the published decoder's: `build_decoder` chooses the decoder")
        reader = CellReader(config.map_channels, config.map_size, config.dropout / 3)
        self.add_regressor(reader, config.hidden, config.dropout)

    def convolutions(self) -> list[str]:
        """Return the names of the convolutions, in the order of the forward pass."""
        levels = [f"conv{level}" for level in range(1, self.levels + 1)]
        return [*levels, "fuse_conv", "conv_score1", "conv_score2", "conv_score3"]

    def forward(self, maps: list[torch.Tensor], side: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Decode the U-Net's maps.

        Args:
            maps: one (B, C_l, h_l, w_l) for each level, finest first.
            side: m, cells a side of the quality map.

        Returns:
            Scores (B,), and the quality map (B, `map_channels`, m, m), not negative.
        """
        quality = self.quality_map(maps, side)
        return self.regress(quality), quality

    def quality_map(self, maps: list[torch.Tensor], side: int) -> torch.Tensor:
        """Decode maps, as of `forward`, into (B, `map_channels`, side, side), not negative."""
        levels = [
            self.get_submodule(f"se{level}")(self.get_submodule(f"conv{level}")(_resize(features, side)))
            for level, features in enumerate(maps, start=1)
        ]
        fused = self.se_fuse(self.fuse_conv(torch.cat(levels, dim=1)))
        hidden = F.relu(self.conv_score1(fused))
        hidden = F.relu(self.conv_score2(hidden))
        return F.relu(self.conv_score3(hidden))


class SmallDecoder(QualityFeatureDecoder):
    """Our own decoder: further channels of its map come from scene statistics, and it may read moments of the map."""

    def _add_head(self) -> None:
        config = self.config
        self.statistics = StatisticsBranch(config.statistics_channels) if config.statistics_channels else None
        channels = config.map_channels + config.statistics_channels
        reader = build_reader(config.pooling, channels, config.map_size, config.dropout / 3)
        self.add_regressor(reader, config.hidden, config.dropout)

    def forward(
        self, maps: list[torch.Tensor], side: int, statistics: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Decode the U-Net's maps, as `QualityFeatureDecoder.forward` does.

        Args:
            maps: one (B, C_l, h_l, w_l) for each level, finest first.
            side: m, cells a side of the quality map.
            statistics: `scene_statistics` of the pictures, for a decoder that has channels of them.

        Returns:
            Scores (B,), and the quality map (B, `map_channels` + `statistics_channels`, m, m).
        """
        quality = self.quality_map(maps, side)
        if self.statistics is not None:
            quality = torch.cat([quality, resize_nearest(self.statistics(statistics), side)], dim=1)
        return self.regress(quality), quality


class AddingDecoder(QualityFeatureDecoder):
    """Our own decoder for a teacher whose score is a student's regressor's, which reads moments of the map, too.

    It begins without effect on the score: the layers that read the map have weights of zero.
    """

    def __init__(self, channels: tuple[int, ...], config: QfdConfig, hidden: int) -> None:
        super().__init__(channels, config)
        self.reader = MomentReader(config.map_channels, config.dropout / 3)
        self.linear = nn.Linear(self.reader.width, 1)
        self.first = nn.Linear(self.reader.width, hidden, bias=False)
        for parameter in (*self.linear.parameters(), *self.first.parameters()):
            nn.init.zeros_(parameter)

    def _add_head(self) -> None:
        """Add nothing: the regressor is the student's."""

    def forward(  # type: ignore[override]
        self, maps: list[torch.Tensor], side: int
    ) -> tuple[FurtherInputs, torch.Tensor]:
        """Decode the U-Net's maps, as `QualityFeatureDecoder.forward` does.

        Returns:
            What the map adds to the student's regressor, and the map (B, `map_channels`, m, m), not negative.
        """
        quality = self.quality_map(maps, side)
        values = self.reader(quality)
        return FurtherInputs(self.linear(values), self.first(values)), quality


def _resize(features: torch.Tensor, side: int) -> torch.Tensor:
    if features.shape[-1] == side:
        return features
    return F.interpolate(features, size=(side, side), mode="bicubic", align_corners=False)
