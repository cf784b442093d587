"""The PromptIQA network: an image's vector, the features of image-score pairs, and the image's score among them.

Written from the paper (Chen et al., PromptIQA, ECCV 2024; section 3.2: the multi-view attention) and a description
of what the published model computes. Attribute names are those of the published state dict.
"""

from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn

from dpiqa.models.promptiqa.config import PromptIQAConfig

_PUBLISHED_EPS = 1e-5  #: of the Blocks whose LayerNorm the published model does not set; timm's default has changed


class PromptIQA(nn.Module):
    """A ViT's maps fused to one vector per image; a transformer over that vector and the prompts of a requirement.

    Attribute names are those of the published state dict.
    """

    def __init__(self, config: PromptIQAConfig) -> None:
        super().__init__()
        self.config = config
        self.vit = _vision_transformer(config)
        cells = config.grid**2
        self.MALs = nn.ModuleList(
            MultiViewAttention(len(config.taps), config.vit_width, config.query_width, cells)
            for _ in range(config.views)
        )
        self.fusion_mal = MultiViewAttention(config.views, config.vit_width, config.query_width, cells)
        self.block = _block(config.vit_width, config.vit_heads)
        self.cnn = _cnn(config)
        width, hidden = config.width, config.width // 2
        self.i_p_fusion = nn.Sequential(*(_block(width, config.heads) for _ in range(config.pair_blocks)))
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.prompt_fusion = nn.Sequential(*(_block(width, config.heads) for _ in range(config.prompt_blocks)))
        self.blocks = nn.Sequential(
            *(_block(width, config.heads, qkv_bias=True, eps=1e-6) for _ in range(config.blocks))
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.score_block = nn.Sequential(
            nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(hidden, 1)
        )

    def forward(self, images: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Score images by a requirement.

        Args:
            images: (B, 3, S, S) in [-1, 1], S = `image_size`.
            features: (N, D) prompt features of the requirement's pairs, as `pair_features` returns them.

        Returns:
            Scores (B,) float32 in [0, 1], on the scale of the pairs' scores.
        """
        return self.compare(self.image_vectors(images), self.fuse_prompts(features))

    def pair_features(self, vectors: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Image vectors (N, D) with scores (N,) -> prompt features (N, D)."""
        score_vectors = scores.to(vectors.dtype)[:, None].expand_as(vectors)
        pairs = self.i_p_fusion(torch.stack([vectors, score_vectors], dim=1))
        features: torch.Tensor = self.mlp(pairs.mean(1))
        return features

    def fuse_prompts(self, features: torch.Tensor) -> torch.Tensor:
        """Prompt features (..., N, D) of one requirement -> (..., N, D), each row depending on all of them."""
        single = features.dim() == 2
        fused: torch.Tensor = self.prompt_fusion(features[None] if single else features)
        return fused[0] if single else fused

    def compare(self, vectors: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
        """Image vectors (B, D) among fused prompts, (N, D) for all or (B, N, D) one set each -> scores (B,)."""
        shared = prompts.expand(len(vectors), *prompts.shape[-2:])
        tokens = torch.cat([vectors[:, None], shared], dim=1)
        before_sigmoid: torch.Tensor = self.score_block(self.norm(self.blocks(tokens))[:, 0])
        return before_sigmoid.squeeze(1).float().sigmoid()  # in half precision scores above 0.5 have two digits

    def image_vectors(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) in [-1, 1] -> (B, D)."""
        maps = self.vit.forward_intermediates(images, indices=list(self.config.taps), intermediates_only=True)
        views = torch.stack(cast("list[torch.Tensor]", maps), dim=1)  # B taps C grid grid
        fused = self.fusion_mal(torch.stack([mal(views) for mal in self.MALs], dim=1))
        tokens = self.block(fused.flatten(2).mT)
        vectors: torch.Tensor = self.cnn(tokens.mT.reshape(fused.shape))
        return vectors.flatten(1)


def _vision_transformer(config: PromptIQAConfig) -> VisionTransformer:
    """Build timm's `vit_base_patch8_224` at the config's sizes, without its last norm and its head."""
    return VisionTransformer(
        img_size=config.image_size,
        patch_size=config.patch_size,
        embed_dim=config.vit_width,
        depth=config.vit_depth,
        num_heads=config.vit_heads,
        final_norm=False,
        num_classes=0,
    )


def _block(width: int, heads: int, *, qkv_bias: bool = False, eps: float = _PUBLISHED_EPS) -> Block:
    norm: Any = partial(nn.LayerNorm, eps=eps)
    return Block(width, heads, qkv_bias=qkv_bias, norm_layer=norm)


def _cnn(config: PromptIQAConfig) -> nn.Sequential:
    """Build the layers that turn maps (B, C, grid, grid) into (B, D, 1, 1)."""
    layers: list[nn.Module] = []
    width = config.vit_width
    for channels, kernel, pool in zip(config.cnn_channels, config.cnn_kernels, config.cnn_pools, strict=True):
        layers += [nn.Conv2d(width, channels, kernel), nn.BatchNorm2d(channels), nn.ReLU(), nn.AvgPool2d(pool)]
        width = channels
    return nn.Sequential(*layers)


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
