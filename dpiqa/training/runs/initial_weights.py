"""Initial weights of scorers: a model by name, Stable Diffusion, or a backbone's file."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dpiqa.errors import ConfigurationError, InvalidRequest
from dpiqa.extras import require
from dpiqa.models.base import ModelCard
from dpiqa.models.cards import find_card, verify, weights_path
from dpiqa.models.checkpoint import load_strictly
from dpiqa.models.choice import ModelChoice
from dpiqa.models.loading import load_scorer
from dpiqa.models.networks import build_network
from dpiqa.models.stage_student import StageStudent
from dpiqa.models.student import Student
from dpiqa.models.torch_scorer import TorchScorer
from dpiqa.text import reason_of
from dpiqa.training.weights import fill, read_tensors
from dpiqa.types import ModelKind

CLASSIFIERS = ("classifier.", "_fc.")  #: beginnings of the names of an ImageNet classifier's tensors


def start_card(name: str, kind: ModelKind, models_dir: Path | None) -> ModelCard:
    """Return the card of a model to begin with. Raises `NotFound`, or `InvalidRequest` if it is of another kind."""
    card = find_card(name, models_dir)
    if card.kind is not kind:
        raise InvalidRequest(f"{name} is of kind {card.kind}, not {kind}", hint="`dpiqa models list` shows kinds")
    verify(card, models_dir)
    return card


def start_network(card: ModelCard, models_dir: Path | None) -> Any:
    """Build the card's network with its weights in float32, every parameter ready to learn."""
    weights = weights_path(card, models_dir)
    assert weights is not None  # noqa: S101 - only pixel functions have none, and they cannot be trained
    network = build_network(card)
    load_strictly(network, weights, torch.float32)
    return network.requires_grad_(requires_grad=True)


def torch_scorer(choice: ModelChoice, kind: ModelKind, models_dir: Path | None, device: str) -> TorchScorer:
    """Load a scorer whose outputs are learned. Raises `InvalidRequest` unless it is of that kind."""
    scorer = load_scorer(choice, models_dir=models_dir, device=device)
    if not isinstance(scorer, TorchScorer) or scorer.card.kind is not kind:
        hint = f"name a model of kind {kind}"
        raise InvalidRequest(f"{choice.model} is of kind {scorer.card.kind}, not {kind}", hint=hint)
    return scorer


def fill_from_diffusion(unet: nn.Module, vae: nn.Module, source: str) -> float:
    """Put in Stable Diffusion's U-Net and VAE encoder (folder or hub id in diffusers' layout) -> its scaling factor.

    Raises `ConfigurationError` if it cannot be loaded, `CheckpointError` if its sizes differ.
    """
    from diffusers import AutoencoderKL, UNet2DConditionModel  # noqa: PLC0415 - seconds to import, seldom needed

    try:
        source_unet = UNet2DConditionModel.from_pretrained(source, subfolder="unet")
        source_vae = AutoencoderKL.from_pretrained(source, subfolder="vae")
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"Stable Diffusion cannot be loaded from {source}: {reason_of(error)}",
            hint="set model.diffusion to a folder in diffusers' layout, or to a reachable hub id",
        ) from error
    fill(unet, source_unet.state_dict(), source)
    encoder = {k: v for k, v in source_vae.state_dict().items() if k.startswith(("encoder.", "quant_conv."))}
    fill(vae, encoder, source)
    return float(source_vae.config.scaling_factor)


def package_weights(package: str) -> Path:
    """Return the only .pth of an installed Python package, which is not imported.

    Raises `ConfigurationError` where the package is missing, `InvalidRequest` where it does not hold exactly one.
    """
    require(package, f"a backbone from the package {package}", "train")
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    files = [file for folder in folders for file in sorted(Path(folder).rglob("*.pth"))]
    if len(files) != 1:
        hint = "name its file with model.backbone_weights instead"
        raise InvalidRequest(f"the package {package} holds {len(files)} .pth files, not one", hint=hint)
    return files[0]


def fill_backbone(student: Student | StageStudent, file: Path) -> None:
    """Put a CNN's weights in: with timm's names, or others' (torchvision's, say) whose tensors have the same order.

    Only a .pth keeps an order, so such weights must come as one. The classifier is left out.
    """
    backbone = student.base_model
    tensors = {name: value for name, value in read_tensors(file).items() if not name.startswith(CLASSIFIERS)}
    names = list(backbone.state_dict())
    if file.suffix != ".safetensors" and set(tensors) != set(names) and len(tensors) == len(names):
        tensors = dict(zip(names, tensors.values(), strict=True))
    fill(backbone, tensors, file)


def average_backbones(student: Student | StageStudent, others: Sequence[ModelCard], models_dir: Path | None) -> None:
    """Make the backbone the mean of its own weights and others' (Wortsman et al., Model soups, ICML 2022).

    Raises `InvalidRequest` for a model with another backbone.
    """
    backbone = student.base_model.state_dict()
    of_others = [start_network(card, models_dir).base_model.state_dict() for card in others]
    for card, tensors in zip(others, of_others, strict=True):
        if {name: tensor.shape for name, tensor in tensors.items()} != {n: t.shape for n, t in backbone.items()}:
            hint = "model.average takes models that began with the same backbone as model.start"
            raise InvalidRequest(f"{card.name} has another backbone than model.start", hint=hint)
    for name, tensor in backbone.items():
        if tensor.is_floating_point():
            tensor.copy_(torch.stack([tensor, *(tensors[name] for tensors in of_others)]).mean(dim=0))
