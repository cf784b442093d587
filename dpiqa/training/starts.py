"""Where weights come from: a model by name, or files."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn

from dpiqa.errors import CheckpointError, ConfigurationError, InvalidRequest
from dpiqa.models.base import ModelCard
from dpiqa.models.cards import find_card, verify, weights_path
from dpiqa.models.checkpoint import load_strictly, mismatch
from dpiqa.models.choice import ModelChoice
from dpiqa.models.loading import load_scorer
from dpiqa.models.networks import build_network
from dpiqa.models.student import Student
from dpiqa.models.torch_scorer import TorchScorer
from dpiqa.types import ModelKind


def start_card(name: str, kind: ModelKind, models_dir: Path | None) -> ModelCard:
    """Find the card of a model to go on from. Raises `NotFound`, or `InvalidRequest` if it is of another kind."""
    card = find_card(name, models_dir)
    if card.kind is not kind:
        raise InvalidRequest(f"{name} is of kind {card.kind}, not {kind}", hint="`dpiqa models list` shows kinds")
    verify(card, models_dir)
    return card


def start_network(card: ModelCard, models_dir: Path | None) -> Any:
    """Build the card's network with its weights in float32, every parameter ready to learn."""
    weights = weights_path(card, models_dir)
    assert weights is not None  # noqa: S101 - only pixel functions have none, and they are no kind that is trained
    network = build_network(card)
    load_strictly(network, weights, torch.float32)
    return network.requires_grad_(requires_grad=True)


def torch_scorer(choice: ModelChoice, kind: ModelKind, models_dir: Path | None, device: str) -> TorchScorer:
    """Load a model to ask. Raises `InvalidRequest` unless it is of that kind."""
    scorer = load_scorer(choice, models_dir=models_dir, device=device)
    if not isinstance(scorer, TorchScorer) or scorer.card.kind is not kind:
        hint = f"name a model of kind {kind}"
        raise InvalidRequest(f"{choice.model} is of kind {scorer.card.kind}, not {kind}", hint=hint)
    return scorer


def fill(module: nn.Module, tensors: dict[str, torch.Tensor], source: object) -> None:
    """Put tensors into a module, all of them. Raises `CheckpointError` naming the first that does not fit."""
    complaint = mismatch(module.state_dict(), tensors)
    if complaint:
        hint = "choose sizes (model.architecture) that fit it"
        raise CheckpointError(f"{source} does not fit the architecture: {complaint}", hint=hint)
    module.load_state_dict(tensors)


def vae_scaling(file: Path) -> float:
    """Return the scaling factor that `dpiqa train vae` states in its file."""
    try:
        with safe_open(file, "pt") as opened:
            return float((opened.metadata() or {})["scaling_factor"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(f"{file} is not what `dpiqa train vae` writes: {error!r}", hint="make it anew") from error


def fill_vae(vae: nn.Module, file: Path) -> None:
    """Put the encoder that `dpiqa train vae` wrote into a teacher's VAE."""
    fill(vae, load_file(file), file)


def fill_from_diffusion(unet: nn.Module, vae: nn.Module, source: str) -> float:
    """Put in Stable Diffusion's U-Net and VAE encoder (folder or hub id in diffusers' layout) -> its scaling factor.

    Raises `ConfigurationError` if it cannot be had, `CheckpointError` if its sizes are others.
    """
    from diffusers import AutoencoderKL, UNet2DConditionModel  # noqa: PLC0415 - seconds to import, seldom needed

    try:
        given_unet = UNet2DConditionModel.from_pretrained(source, subfolder="unet")
        given_vae = AutoencoderKL.from_pretrained(source, subfolder="vae")
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"Stable Diffusion cannot be had from {source}: {str(error).splitlines()[0]}",
            hint="set model.diffusion to a folder in diffusers' layout, or to a reachable hub id",
        ) from error
    fill(unet, given_unet.state_dict(), source)
    encoder = {k: v for k, v in given_vae.state_dict().items() if k.startswith(("encoder.", "quant_conv."))}
    fill(vae, encoder, source)
    return float(given_vae.config.scaling_factor)


def fill_backbone(student: Student, file: Path) -> None:
    """Put a CNN's weights in: with timm's names, or torchvision's, whose tensors stand in the same order.

    Only a .pth keeps an order, so torchvision's weights must come as one. The classifier is left out.
    """
    found, backbone = read_tensors(file), student.base_model
    kept = {name: value for name, value in found.items() if not name.startswith("classifier.")}
    names = list(backbone.state_dict())
    if file.suffix != ".safetensors" and set(kept) != set(names) and len(kept) == len(names):
        kept = dict(zip(names, kept.values(), strict=True))
    fill(backbone, kept, file)


def read_tensors(file: Path) -> dict[str, torch.Tensor]:
    """Read a state dict, .pth or .safetensors. Raises `CheckpointError`."""
    try:
        found: dict[str, torch.Tensor] = (
            load_file(file) if file.suffix == ".safetensors" else torch.load(file, weights_only=True)
        )
    except (OSError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"{file} cannot be read: {error}", hint="give a state dict, .pth or .safetensors"
        ) from error
    return found
