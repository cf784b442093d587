"""The file of `dpiqa train diffusion`: a pre-trained U-Net and its prompts, and how a teacher begins with them."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from dpiqa.errors import CheckpointError, InvalidRequest
from dpiqa.files import replace_file, replace_text
from dpiqa.models.cards import sha256_of
from dpiqa.models.checkpoint import load_tensors
from dpiqa.models.teacher import Teacher, TeacherConfig
from dpiqa.models.weights_file import read_header
from dpiqa.provenance import stamp
from dpiqa.training.diffusion import Denoiser
from dpiqa.training.diffusion_config import DenoiserConfig
from dpiqa.training.reproduce import origins
from dpiqa.training.starts import fill

FILE_NAME = "unet.safetensors"
METADATA = "dpiqa.diffusion"  #: one entry, see `dpiqa.models.weights_file`: equal weights make equal bytes
_VAE = "vae.sha256"


def save_unet(network: Denoiser, vae: Path, out: Path, command: str) -> Path:
    """Write `out`/unet.safetensors: tensors `unet.*` and `prompts.*`, sizes and the VAE's sha256 as metadata.

    Beside it goes unet.json, with the command that made it and the file's sha256: a teacher's card repeats both.
    """
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    facts = _sizes(network.config) | {_VAE: sha256_of(vae)}
    metadata = {METADATA: json.dumps(facts, sort_keys=True)}
    file = replace_file(out / FILE_NAME, lambda partial: save_file(kept, partial, metadata=metadata))
    record = {"sha256": sha256_of(file)} | stamp(command, {}) | {"made_from": origins({"vae": vae})}
    text = json.dumps(record, indent=1) + "\n"
    replace_text(file.with_suffix(".json"), text)
    return file


def fill_unet(teacher: Teacher, file: Path, vae: Path | None) -> None:
    """Put U-Net and prompts of `file` into a teacher. `vae`: the file that the teacher's VAE is from.

    Raises `InvalidRequest` without a `vae`, `CheckpointError` if the file is of other sizes, of another VAE, or none.
    """
    if vae is None:
        hint = "set model.vae to the vae.safetensors that it was trained on"
        raise InvalidRequest("model.unet knows the latents of one VAE only", hint=hint)
    facts, wanted = _facts(file), _sizes(teacher.config) | {_VAE: sha256_of(vae)}
    for name, value in wanted.items():
        if facts.get(name) != value:
            raise CheckpointError(
                f"{file} was trained with {name} = {json.dumps(facts.get(name))}, the teacher has {json.dumps(value)}",
                hint="give model.vae and the sizes (model.architecture) that it was trained with, or train it anew",
            )
    tensors = load_tensors(file)
    for name in ("unet", "prompts"):
        part = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
        fill(teacher.get_submodule(name), part, file)


def _sizes(config: DenoiserConfig | TeacherConfig) -> dict[str, Any]:
    """Return all that U-Net and prompts must have in common to mean the same, as JSON values."""
    unet = {f"unet.{name}": value for name, value in config.unet.model_dump(mode="json").items()}
    return unet | {"vae.latent_channels": config.vae.latent_channels, "prompts": config.prompts}


def _facts(file: Path) -> dict[str, Any]:
    try:
        facts = json.loads(read_header(file).metadata[METADATA])
        return dict(facts)
    except (OSError, ValueError, KeyError, TypeError) as error:
        hint = "name the unet.safetensors of a run"
        raise CheckpointError(f"{file} is not what `dpiqa train diffusion` writes: {error!r}", hint=hint) from error
