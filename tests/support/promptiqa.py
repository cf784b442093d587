"""A PromptIQA checkpoint small enough for tests, of the same code as the published one."""

import torch
from safetensors.torch import save_file

from dpiqa.models.base import ModelCard
from dpiqa.models.cards import sha256_of
from dpiqa.models.promptiqa.config import SCORE_SCALE, PromptIQAConfig
from dpiqa.models.promptiqa.network import PromptIQA
from dpiqa.types import ModelKind

TINY = PromptIQAConfig(
    image_size=32,
    patch_size=4,
    vit_width=48,
    vit_depth=4,
    vit_heads=4,
    taps=(1, 3),
    views=2,
    query_width=8,
    cnn_channels=(24, 16, 16),
    cnn_kernels=(3, 1, 1),
    cnn_pools=(2, 1, 3),
    pair_blocks=1,
    prompt_blocks=1,
    blocks=2,
)


def tiny_promptiqa(seed=0):
    """A network with random weights, louder than at the start of training, so that scores differ."""
    torch.manual_seed(seed)
    network = PromptIQA(TINY)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=(2 / parameter[0].numel()) ** 0.5)
    return network.eval()


def write_tiny_promptiqa(folder, name, seed=0):
    """Write `folder`/`name`.safetensors and .json; returns the card."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / f"{name}.safetensors"
    save_file({key: value.contiguous() for key, value in tiny_promptiqa(seed).state_dict().items()}, weights)
    card = ModelCard(
        name=name,
        kind=ModelKind.PROMPTIQA,
        architecture=TINY.model_dump(mode="json"),
        weights=weights.name,
        sha256=sha256_of(weights),
        preprocessing=TINY.preprocessing,
        score_scale=SCORE_SCALE,
        licence="Apache-2.0",
        notes="Random weights, for tests.",
    )
    (folder / f"{name}.json").write_text(card.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return card
