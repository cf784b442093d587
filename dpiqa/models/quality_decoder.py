"""The quality feature decoder: four maps of the U-Net become one quality map and a score (DP-IQA, section 3.3)."""

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt
from torch import nn

from dpiqa.models.regressor import MapReader, Pooling, resize_nearest
from dpiqa.models.statistics import StatisticsBranch


class QfdConfig(BaseModel):
    """Sizes of the decoder. The defaults are the published model's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = 512
    squeeze: int = 16  #: reduction of the squeeze-and-excite blocks
    score_widths: tuple[int, int] = (128, 32)
    map_channels: int = 8  #: of the quality map, from the U-Net
    statistics_channels: NonNegativeInt = 0  #: further ones, from `dpiqa.models.statistics`; 0 as published
    map_size: int = 64  #: cells a side
    pooling: Pooling = Pooling.CELLS
    dropout: float = Field(0, ge=0, lt=1)  #: of the first hidden units, and a third of it of what the regressor sees
    hidden: int = 512


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


class QualityFeatureDecoder(nn.Module):
    """Names of the layers are those of the published state dicts."""

    def __init__(self, channels: tuple[int, ...], config: QfdConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        for level, given in enumerate(channels, start=1):
            self.add_module(f"conv{level}", nn.Conv2d(given, width, 3, padding=1))
            self.add_module(f"se{level}", SqueezeExcite(width, config.squeeze))
        self.levels = len(channels)
        self.fuse_conv = nn.Conv2d(self.levels * width, width, 3, padding=1)
        self.se_fuse = SqueezeExcite(width, config.squeeze)
        self.conv_score1 = nn.Conv2d(width, config.score_widths[0], 1)
        self.conv_score2 = nn.Conv2d(config.score_widths[0], config.score_widths[1], 1)
        self.conv_score3 = nn.Conv2d(config.score_widths[1], config.map_channels, 1)
        self.statistics = StatisticsBranch(config.statistics_channels) if config.statistics_channels else None
        self.reader = MapReader(
            config.map_channels + config.statistics_channels, config.map_size, config.pooling, config.dropout / 3
        )
        self.fc1 = nn.Linear(self.reader.width, config.hidden)
        self.fc2 = nn.Linear(config.hidden, config.hidden)
        self.fc3 = nn.Linear(config.hidden, 1)

    def convolutions(self) -> list[str]:
        """Names of the convolutions, in the order of the forward pass."""
        levels = [f"conv{level}" for level in range(1, self.levels + 1)]
        return [*levels, "fuse_conv", "conv_score1", "conv_score2", "conv_score3"]

    def forward(
        self, maps: list[torch.Tensor], side: int, statistics: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Four maps, finest first, and the wanted side m -> scores (B,), quality map (B, all channels, m, m).

        `statistics`: `dpiqa.models.statistics.scene_statistics` of the pictures, for a decoder that has channels of it.
        """
        levels = [self._level(number, features, side) for number, features in enumerate(maps, start=1)]
        fused = self.se_fuse(self.fuse_conv(torch.cat(levels, dim=1)))
        scored = F.relu(self.conv_score1(fused))
        scored = F.relu(self.conv_score2(scored))
        quality = F.relu(self.conv_score3(scored))
        if self.statistics is not None:
            quality = torch.cat([quality, resize_nearest(self.statistics(statistics), side)], dim=1)
        return self.regress(quality), quality

    def _level(self, number: int, features: torch.Tensor, side: int) -> torch.Tensor:
        resized = _resize(features, side)
        level: torch.Tensor = self.get_submodule(f"se{number}")(self.get_submodule(f"conv{number}")(resized))
        return level

    def regress(self, quality: torch.Tensor) -> torch.Tensor:
        """Quality map (B, all channels, m, m) -> scores (B,)."""
        hidden = F.relu(self.fc1(self.reader(quality)))
        hidden = F.relu(self.fc2(F.dropout(hidden, self.config.dropout, self.training)))
        score: torch.Tensor = self.fc3(hidden)
        return score.squeeze(1)


def _resize(features: torch.Tensor, side: int) -> torch.Tensor:
    if features.shape[-1] == side:
        return features
    return F.interpolate(features, size=(side, side), mode="bicubic", align_corners=False)
