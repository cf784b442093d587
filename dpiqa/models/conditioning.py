"""Inputs of the teacher's U-Net that no image changes: embeddings of the prompts, and the timestep."""

import torch
from diffusers.models.resnet import ResnetBlock2D
from torch import nn

from dpiqa.models.prompts import PromptTable, prompt_table


class LearnedPrompts(nn.Module):
    """Prompt embeddings learned with the network, for teachers without a CLIP.

    Each is the sum of its quality's, its scene's and its distortion's vector. They start random: training alone gives
    the words their meaning.
    """

    def __init__(self, table: PromptTable, width: int) -> None:
        super().__init__()
        qualities, scenes, distortions = table.shape
        self.quality = nn.Parameter(torch.randn(qualities, 1, 1, width))
        self.scene = nn.Parameter(torch.randn(1, scenes, 1, width))
        self.distortion = nn.Parameter(torch.randn(1, 1, distortions, width))

    def forward(self) -> torch.Tensor:
        """Return the embeddings, (N, width), in the order of `PromptTable.texts`."""
        return (self.quality + self.scene + self.distortion).flatten(0, 2) / 3**0.5


class StoredPrompts(nn.Module):
    """Prompt embeddings made once by a text encoder and kept in the checkpoint."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.register_buffer("embeddings", torch.zeros(count, width))

    def forward(self) -> torch.Tensor:
        """Return the embeddings, (N, width)."""
        embeddings: torch.Tensor = self.get_buffer("embeddings")
        return embeddings


def build_prompts(table: str | None, count: int, width: int) -> LearnedPrompts | StoredPrompts:
    """Build embeddings that are learned for the prompts of a `table`, or zeros for `count` stored ones."""
    return StoredPrompts(count, width) if table is None else LearnedPrompts(prompt_table(table), width)


class TextAdapter(nn.Module):
    """Two linear layers that move CLIP's embeddings towards quality (DP-IQA, section 3.3)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """(N, width) -> (N, width)."""
        adapted: torch.Tensor = self.fc(embeddings)
        return adapted


class ConstantProjection(nn.Module):
    """Replaces a key or value projection whose input never changes: (B, any, any) -> (B, N, width)."""

    def __init__(self, value: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("value", value, persistent=False)

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        """Return the constant, once per row of `text`."""
        value: torch.Tensor = self.get_buffer("value")
        return value.expand(text.shape[0], -1, -1)


def freeze_text(unet: nn.Module, text: torch.Tensor) -> None:
    """Compute every cross-attention key and value of `unet` for the conditioning (1, N, width) once, permanently."""
    cross_attentions = [module for module in unet.modules() if getattr(module, "is_cross_attention", False)]
    with torch.no_grad():
        for attention in cross_attentions:
            attention.to_k = ConstantProjection(attention.to_k(text))  # type: ignore[operator]
            attention.to_v = ConstantProjection(attention.to_v(text))  # type: ignore[operator]


def freeze_timestep(unet: nn.Module, timestep: int) -> None:
    """Add what every block of `unet` learns from the timestep to the bias before it, permanently.

    Besides the layers of the embedding this saves an addition over the whole map in every block.
    """
    parameter = next(unet.parameters())
    with torch.no_grad():
        steps = torch.tensor([timestep], device=parameter.device)
        embedding = unet.time_embedding(unet.time_proj(steps).to(parameter.dtype))  # type: ignore[operator]
        for block in unet.modules():
            if isinstance(block, ResnetBlock2D) and block.time_emb_proj is not None:
                shift = block.time_emb_proj(block.nonlinearity(embedding))[0]
                block.conv1.bias = nn.Parameter(block.conv1.bias + shift, requires_grad=False)
                block.time_emb_proj = None
    unet.time_embedding = _NoEmbedding()


class _NoEmbedding(nn.Module):
    """Replaces the embedding of a timestep that the biases of the blocks know already."""

    def forward(self, _sinusoids: torch.Tensor, _condition: torch.Tensor | None = None) -> None:
        """Return None, which blocks leave out."""
