"""From a trained network to a file that `load_scorer` takes: safetensors with a card beside it."""

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from dpiqa.errors import Conflict
from dpiqa.files import replace_file, replace_text
from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.models.base import ModelCard
from dpiqa.models.cards import list_cards, read_card, sha256_of
from dpiqa.models.promptiqa.config import PromptIQAConfig
from dpiqa.models.student import StudentConfig
from dpiqa.models.teacher import TeacherConfig
from dpiqa.types import ModelKind

Sizes = StudentConfig | TeacherConfig | PromptIQAConfig
_KINDS = {
    StudentConfig: ModelKind.STUDENT,
    TeacherConfig: ModelKind.TEACHER,
    PromptIQAConfig: ModelKind.PROMPTIQA,
}


def export_model(
    network: nn.Module,
    config: Sizes,
    name: str,
    folder: Path,
    *,
    half: bool = True,
    **card_fields: Any,
) -> ModelCard:
    """Write `folder`/`name`.safetensors and, last, its card `name`.json; returns the card. Both appear whole.

    `half`: in float16, which halves the file and moves a score by less than 0.001; the scorer computes in float32.
    """
    folder.mkdir(parents=True, exist_ok=True)
    dtype = torch.float16 if half else torch.float32
    tensors = {key: _stored(value, dtype) for key, value in network.state_dict().items()}
    weights = replace_file(folder / f"{name}.safetensors", lambda partial: save_file(tensors, partial))
    card = ModelCard(
        name=name,
        kind=_KINDS[type(config)],
        architecture=config.model_dump(mode="json"),
        weights=weights.name,
        sha256=sha256_of(weights),
        preprocessing=_preprocessing(config),
        **card_fields,
    )
    write_card(card, folder)
    return card


def write_card(card: ModelCard, folder: Path) -> None:
    """Write, or write anew, a model's card."""
    text = card.model_dump_json(indent=1) + "\n"
    replace_text(folder / f"{card.name}.json", text)


def publish(card: ModelCard, staged: Path, models_dir: Path) -> None:
    """Move a finished model from the run's folder into the models folder; its card comes last."""
    models_dir.mkdir(parents=True, exist_ok=True)
    weights = str(card.weights)
    replace_file(models_dir / weights, lambda partial: shutil.copyfile(staged / weights, partial))
    write_card(card, models_dir)


def require_free_name(name: str, models_dir: Path, run: str) -> None:
    """Raise `Conflict` if another model has the name: looked at before a long run, not after it.

    `run`: identity of the run as its card states it; the same run may write its own model again.
    """
    there = models_dir / f"{name}.json"
    if there.is_file() and read_card(there).figures.get("training", {}).get("run") == run:
        return
    known = list_cards(models_dir if models_dir.is_dir() else None)
    if any(card.name == name for card in known):
        raise Conflict(f"there is a model called {name} already", hint="choose another name (output.name, --name)")


def _stored(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    value = value.detach().cpu()
    return (value.to(dtype) if value.is_floating_point() else value).contiguous()


def _preprocessing(config: Sizes) -> Preprocessing:
    if isinstance(config, PromptIQAConfig):
        return config.preprocessing
    return Preprocessing(width=config.input_size, height=config.input_size)
