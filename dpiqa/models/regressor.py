"""Regressors over a quality map: how they read the map (every cell, as published, or moments), and their layers."""

from enum import StrEnum

import torch
import torch.nn.functional as F
from torch import nn

LEAST_VARIANCE = 1e-4  #: keeps the root's slope finite where a channel is flat


class MapPooling(StrEnum):
    """Ways to make a regressor's input of a quality map, or of a backbone."""

    CELLS = "cells"  #: all of its values: the published models'
    MOMENTS = "moments"  #: mean, standard deviation and middle's mean of a channel: for little data, any picture size
    STAGES = "stages"  #: mean and deviation of every channel of all stages of a student's backbone, without a map


class CellReader(nn.Module):
    """Every value of the map, resized to `side` x `side` cells first: what the published regressors see.

    Forward: quality map (B, C, h, w) -> (B, `width`).
    """

    def __init__(self, channels: int, side: int, dropout: float) -> None:
        super().__init__()
        self._side = side
        self.width = channels * side**2
        self.dropout = nn.Dropout(dropout)

    def forward(self, quality: torch.Tensor) -> torch.Tensor:
        """See the class."""
        values: torch.Tensor = self.dropout(resize_nearest(quality, self._side).flatten(1))
        return values


class MomentReader(nn.Module):
    """Three moments of each channel, standardised: mean, deviation, and mean of the middle.

    The middle is a quarter of the picture, where photographers put what should be sharp. Some moments are dropped while
    training. Forward: quality map (B, C, h, w) of any size -> (B, `width`).
    """

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.width = 3 * channels
        self.norm = nn.BatchNorm1d(self.width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, quality: torch.Tensor) -> torch.Tensor:
        """See the class."""
        top, left = (side // 4 for side in quality.shape[-2:])
        # In this order: gradients are added in the reverse one, and another order rounds differently in training.
        deviation = (quality.var(dim=(2, 3), correction=0) + LEAST_VARIANCE).sqrt()
        mean = quality.mean(dim=(2, 3))
        middle = quality[..., top : quality.shape[-2] - top, left : quality.shape[-1] - left]
        moments = torch.cat([mean, deviation, middle.mean(dim=(2, 3))], dim=1)
        values: torch.Tensor = self.dropout(self.norm(moments))
        return values


def build_reader(pooling: MapPooling, channels: int, side: int, dropout: float) -> CellReader | MomentReader:
    """Build the reader of a map of `channels` channels. `side`: cells of its resized map, for CELLS."""
    if pooling is MapPooling.MOMENTS:
        return MomentReader(channels, dropout)
    return CellReader(channels, side, dropout)


class MapRegressor(nn.Module):
    """Three linear layers over what a reader sees of a quality map. A base: published names have them at the top."""

    reader: CellReader | MomentReader
    fc1: nn.Linear
    fc2: nn.Linear
    fc3: nn.Linear

    def add_regressor(self, reader: CellReader | MomentReader, hidden: int, dropout: float) -> None:
        """Add the layers. `dropout`: of the first hidden units."""
        self._hidden_dropout = dropout
        self.reader = reader
        self.fc1 = nn.Linear(reader.width, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.fc3 = nn.Linear(hidden, 1)

    def regress(self, quality: torch.Tensor) -> torch.Tensor:
        """Quality map (B, C, h, w) -> scores (B,)."""
        hidden = F.relu(self.fc1(self.reader(quality)))
        hidden = F.relu(self.fc2(F.dropout(hidden, self._hidden_dropout, self.training)))
        score: torch.Tensor = self.fc3(hidden)
        return score.squeeze(1)


def resize_nearest(features: torch.Tensor, side: int) -> torch.Tensor:
    """(B, C, s, s) -> (B, C, side, side)."""
    return features if features.shape[-1] == side else F.interpolate(features, size=(side, side), mode="nearest")
