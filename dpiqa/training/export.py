"""From a trained network to a file that `load_scorer` takes: safetensors with a card beside it."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.models.base import ModelCard, ModelKind
from dpiqa.models.cards import sha256_of
from dpiqa.models.student import StudentConfig
from dpiqa.models.teacher import TeacherConfig

LICENCE = "Apache-2.0 (the weights; trained on data with terms of its own, see trained_on)"


def export_model(
    network: nn.Module, config: StudentConfig | TeacherConfig, name: str, folder: Path, **card_fields: Any
) -> ModelCard:
    """Write `folder`/`name`.safetensors (half precision) and .json; returns the card.

    Half precision moves a score by less than 1e-3 and halves the file; the scorer computes in float32 all the same.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {key: _half(value).contiguous() for key, value in network.state_dict().items()}
    weights = folder / f"{name}.safetensors"
    save_file(tensors, weights)
    card = ModelCard(
        name=name,
        kind=ModelKind.STUDENT if isinstance(config, StudentConfig) else ModelKind.TEACHER,
        architecture=config.model_dump(mode="json"),
        weights=weights.name,
        sha256=sha256_of(weights),
        preprocessing=Preprocessing(width=config.input_size, height=config.input_size),
        licence=LICENCE,
        **card_fields,
    )
    (folder / f"{name}.json").write_text(card.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return card


def _half(value: torch.Tensor) -> torch.Tensor:
    return value.half() if value.is_floating_point() else value
