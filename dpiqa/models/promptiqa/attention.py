"""Multi-view attention learning (PromptIQA, section 3.2): many maps of one image fused into one.

Written from a description of the published model's computation; the names are those of its state dict.
"""

import torch
import torch.nn.functional as F
from torch import nn


class SpatialAttention(nn.Module):
    """Every cell of one map attends to all its cells, by unscaled dot products; added to the map with weight gamma."""

    def __init__(self, width: int, query_width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))
        self.qConv = nn.Conv2d(width, query_width, 1)
        self.kConv = nn.Conv2d(width, query_width, 1)
        self.vConv = nn.Conv2d(width, width, 1)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        query, key, value = (conv(maps).flatten(2).mT for conv in (self.qConv, self.kConv, self.vConv))
        attended = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        mixed: torch.Tensor = maps + self.gamma * attended.mT.reshape(maps.shape)
        return mixed


class TokenAttention(nn.Module):
    """Residual attention with one head whose result is reordered.

    The published model transposes the attended tokens and reads the numbers back in the shape of the input, instead
    of transposing again: the residual mixes positions and channels. Published weights were trained so.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_q = nn.Linear(width, width)
        self.c_k = nn.Linear(width, width)
        self.c_v = nn.Linear(width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, N, width) -> (B, N, width)."""
        attended = F.scaled_dot_product_attention(self.c_q(tokens), self.c_k(tokens), self.c_v(tokens))
        return tokens + attended.mT.reshape(tokens.shape)


class MultiViewAttention(nn.Module):
    """Fuses n maps: each attends within itself, then two attentions see all of them, and their mean is taken.

    The tokens of `feature_attention` are not one channel of every map, as one would expect: the published model cuts
    the n x C channels, map after map, into C groups of n neighbours, so that a token is n channels of one map.
    """

    def __init__(self, maps: int, width: int, query_width: int, cells: int) -> None:
        super().__init__()
        self.channel_attention = TokenAttention(width * maps)
        self.feature_attention = TokenAttention(cells * maps)
        self.attention_module = nn.ModuleList(SpatialAttention(width, query_width) for _ in range(maps))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(B, n, C, h, w) -> (B, C, h, w)."""
        attended = [module(view) for module, view in zip(self.attention_module, maps.unbind(1), strict=True)]
        views = torch.stack(attended, dim=1).flatten(3)  # B n C cells
        batch, number, width, cells = views.shape
        by_channel = self.feature_attention(views.view(batch, width, number * cells)).view(views.shape)
        by_cell = self.channel_attention(views.flatten(1, 2).mT).mT.reshape(views.shape)
        fused: torch.Tensor = (by_channel + by_cell).mean(1) / 2
        return fused.view(batch, width, *maps.shape[-2:])
