"""Files of weights that runs read and write: state dicts, and the autoencoder and U-Net that later runs begin with."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from dpiqa.errors import CheckpointError, InvalidRequest
from dpiqa.files import replace_file, replace_text
from dpiqa.models.cards import sha256_of
from dpiqa.models.checkpoint import load_tensors, mismatch
from dpiqa.models.teacher import Teacher, TeacherConfig
from dpiqa.models.weights_file import read_header
from dpiqa.provenance import stamp
from dpiqa.training.config.kinds import DenoiserConfig

VAE_NAME, UNET_NAME = "vae.safetensors", "unet.safetensors"
UNET_METADATA = "dpiqa.diffusion"  #: one entry, see `dpiqa.models.weights_file`: equal weights make equal bytes
_VAE_SHA256 = "vae.sha256"


def read_tensors(file: Path) -> dict[str, torch.Tensor]:
    """Read a state dict, .pth or .safetensors. Raises `CheckpointError`."""
    try:
        tensors: dict[str, torch.Tensor] = (
            load_file(file) if file.suffix == ".safetensors" else torch.load(file, weights_only=True)
        )
    except (OSError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"{file} cannot be read: {error}", hint="give a state dict, .pth or .safetensors"
        ) from error
    return tensors


def fill(module: nn.Module, tensors: dict[str, torch.Tensor], source: object) -> None:
    """Put tensors into a module, all of them. Raises `CheckpointError` naming the first that does not fit."""
    complaint = mismatch(module.state_dict(), tensors)
    if complaint:
        hint = "choose sizes (model.architecture) that fit it"
        raise CheckpointError(f"{source} does not fit the architecture: {complaint}", hint=hint)
    module.load_state_dict(tensors)


def save_vae(vae: nn.Module, deviation: float, out: Path, command: str) -> Path:
    """Write the encoder as `out`/vae.safetensors, with the scaling factor 1 / `deviation` as metadata.

    `deviation`: of the latents. Beside it goes vae.json, with the command that made it and the file's sha256: a
    teacher's card repeats both. (In the file itself a second entry of metadata would make equal weights unequal bytes,
    see `dpiqa.models.weights_file`.)
    """
    tensors = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in vae.state_dict().items()
        if name.startswith(("encoder.", "quant_conv."))
    }
    metadata = {"scaling_factor": f"{1 / deviation:.5f}"}
    file = replace_file(out / VAE_NAME, lambda partial: save_file(tensors, partial, metadata=metadata))
    _save_record(file, stamp(command, {}))
    return file


def vae_scaling(file: Path) -> float:
    """Return the scaling factor that `dpiqa train vae` states in its file. Raises `CheckpointError`."""
    try:
        with safe_open(file, "pt") as opened:
            return float((opened.metadata() or {})["scaling_factor"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(
            f"{file} was not written by `dpiqa train vae`: {error!r}", hint="train the autoencoder again"
        ) from error


def fill_vae(vae: nn.Module, file: Path) -> None:
    """Put the encoder that `dpiqa train vae` wrote into a teacher's VAE. Raises `CheckpointError`."""
    fill(vae, load_file(file), file)


def save_unet(
    network: nn.Module, config: DenoiserConfig, vae: Path, out: Path, command: str, made_from: Mapping[str, Any]
) -> Path:
    """Write `out`/unet.safetensors: tensors `unet.*` and `prompts.*`, sizes and the VAE's sha256 as metadata.

    Beside it goes unet.json, with the command that made it and the file's sha256: a teacher's card repeats both.
    `made_from`: see `dpiqa.training.runs.publish.origins`.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    facts = _prior_sizes(config) | {_VAE_SHA256: sha256_of(vae)}
    metadata = {UNET_METADATA: json.dumps(facts, sort_keys=True)}
    file = replace_file(out / UNET_NAME, lambda partial: save_file(tensors, partial, metadata=metadata))
    _save_record(file, stamp(command, {}) | {"made_from": dict(made_from)})
    return file


def fill_unet(teacher: Teacher, file: Path, vae: Path | None) -> None:
    """Put U-Net and prompts of `file` into a teacher. `vae`: the file that the teacher's VAE is from.

    Raises `InvalidRequest` without a `vae`, `CheckpointError` if the file has other sizes, belongs to another VAE, or
    was not written by `save_unet`.
    """
    if vae is None:
        hint = "set model.vae to the vae.safetensors that it was trained on"
        raise InvalidRequest("model.unet knows the latents of one VAE only", hint=hint)
    try:
        facts = dict(json.loads(read_header(file).metadata[UNET_METADATA]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        hint = "name the unet.safetensors of a run"
        raise CheckpointError(f"{file} was not written by `dpiqa train diffusion`: {error!r}", hint=hint) from error
    for name, value in (_prior_sizes(teacher.config) | {_VAE_SHA256: sha256_of(vae)}).items():
        if facts.get(name) != value:
            raise CheckpointError(
                f"{file} was trained with {name} = {json.dumps(facts.get(name))}, the teacher has {json.dumps(value)}",
                hint="give model.vae and the sizes (model.architecture) that it was trained with, or train it again",
            )
    tensors = load_tensors(file)
    for part in ("unet", "prompts"):
        prefix = f"{part}."
        part_tensors = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        fill(teacher.get_submodule(part), part_tensors, file)


def _prior_sizes(config: DenoiserConfig | TeacherConfig) -> dict[str, Any]:
    """Return everything in which U-Net and prompts must agree to mean the same, as JSON values."""
    unet = {f"unet.{name}": value for name, value in config.unet.model_dump(mode="json").items()}
    return unet | {"vae.latent_channels": config.vae.latent_channels, "prompts": config.prompts}


def _save_record(file: Path, facts: Mapping[str, Any]) -> None:
    """Write the record beside a file of weights: its sha256 and `facts`."""
    text = json.dumps({"sha256": sha256_of(file), **facts}, indent=1) + "\n"
    replace_text(file.with_suffix(".json"), text)
