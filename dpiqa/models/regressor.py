"""What a regressor sees of a quality map: every cell, as published, or each channel's moments over them."""

from enum import StrEnum

import torch
import torch.nn.functional as F
from torch import nn

_LEAST_VARIANCE = 1e-4  #: keeps the root's slope finite where a channel is flat


class Pooling(StrEnum):
    """How a quality map becomes a regressor's input."""

    CELLS = "cells"  #: all of its values: the published models'
    MOMENTS = "moments"  #: mean, standard deviation and middle's mean of a channel: for little data, any picture size


class MapReader(nn.Module):
    """Quality map (B, C, h, w) -> the regressor's input (B, `width`).

    CELLS resizes the map to `side` cells first, as published. MOMENTS standardises what it finds, and drops some of it
    while training; the middle is a quarter of the picture, where photographers put what should be sharp.
    """

    def __init__(self, channels: int, side: int, pooling: Pooling, dropout: float) -> None:
        super().__init__()
        self._side, self._pooling = side, pooling
        self.width = channels * side**2 if pooling is Pooling.CELLS else 3 * channels
        self.norm = nn.BatchNorm1d(self.width) if pooling is Pooling.MOMENTS else nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def forward(self, quality: torch.Tensor) -> torch.Tensor:
        """See the class."""
        if self._pooling is Pooling.CELLS:
            pooled = resize_nearest(quality, self._side).flatten(1)
        else:
            deviation = (quality.var(dim=(2, 3), correction=0) + _LEAST_VARIANCE).sqrt()
            pooled = torch.cat([quality.mean(dim=(2, 3)), deviation, _middle(quality).mean(dim=(2, 3))], dim=1)
        read: torch.Tensor = self.dropout(self.norm(pooled))
        return read


def _middle(quality: torch.Tensor) -> torch.Tensor:
    top, left = (side // 4 for side in quality.shape[-2:])
    return quality[..., top : quality.shape[-2] - top, left : quality.shape[-1] - left]


def resize_nearest(features: torch.Tensor, side: int) -> torch.Tensor:
    """(B, C, s, s) -> (B, C, side, side)."""
    return features if features.shape[-1] == side else F.interpolate(features, size=(side, side), mode="nearest")
