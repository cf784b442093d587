"""Conversion of published weights into a safetensors file. Needs torch; ONNX files are not converted."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dpiqa.errors import CheckpointError, InvalidRequest
from dpiqa.models.base import ModelCard
from dpiqa.models.checkpoint import mismatch, write_weights
from dpiqa.models.importing.naming import RenamedWeights, rename
from dpiqa.models.importing.pickles import read_checkpoint
from dpiqa.models.networks import build_network
from dpiqa.models.text.embeddings import TextEmbeddings, TextSource, content_hash, read_embeddings
from dpiqa.types import ModelKind

EMBEDDINGS = "prompts.embeddings"
_SCORING_PRECISIONS = frozenset({torch.float32, torch.bfloat16, torch.float16})  #: others are converted to float32


@dataclass(frozen=True, slots=True)
class Conversion:
    """Facts about the file that its conversion has found."""

    architecture: dict[str, Any]
    notes: tuple[str, ...]


def convert(file: Path, card: ModelCard, weights: Path, embeddings_file: Path | None) -> Conversion:
    """Write `weights` from the published `file` for the network that `card` describes.

    Raises `CheckpointError` naming the file and the tensor that is missing, unexpected, of another shape or not finite.
    """
    published = read_checkpoint(file)
    embeddings = _embeddings(card, embeddings_file, published.tensors)
    architecture, tensors = card.architecture, published.tensors
    if embeddings is not None:
        source = embeddings.source.model_dump(mode="json")
        architecture = architecture | {"prompt_count": len(embeddings.values), "text": source}
        tensors = tensors | {EMBEDDINGS: embeddings.values}
    network = build_network(card.model_copy(update={"architecture": architecture}))
    try:
        renamed = rename(tensors, card.kind, network)
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error.message}", hint=error.hint) from error
    tensors = {
        name: tensor.float() if tensor.is_floating_point() and tensor.dtype not in _SCORING_PRECISIONS else tensor
        for name, tensor in renamed.tensors.items()
    }
    complaint = mismatch(network.state_dict(), tensors, renamed.called) or _not_finite(tensors, renamed.called)
    if complaint:
        raise CheckpointError(
            f"{file}: {complaint}",
            hint=f"the file is damaged, or not a {card.kind} of these sizes (--kind, --architecture)",
        )
    write_weights(tensors, weights)
    return Conversion(architecture, (*published.notes, *_left_out(renamed)))


def _embeddings(card: ModelCard, file: Path | None, published: dict[str, torch.Tensor]) -> TextEmbeddings | None:
    """Read the text embeddings that a published teacher needs and does not hold."""
    required = (
        card.kind is ModelKind.TEACHER and card.architecture.get("prompts") is None and EMBEDDINGS not in published
    )
    if required and file is None:
        raise InvalidRequest(
            "a published teacher does not hold the embeddings of its prompts",
            hint="make them once with `dpiqa models embed-text` and name the file with --text-embeddings",
        )
    if file is not None and not required:
        raise InvalidRequest(
            f"this {card.kind} takes no text embeddings from a file", hint="leave --text-embeddings out"
        )
    if file is None:
        return None
    embeddings = _read_numpy(file) if file.suffix == ".npy" else read_embeddings(file)
    width = card.architecture["unet"]["text_width"]
    if embeddings.values.shape[1] != width:
        raise CheckpointError(
            f"{file}: embeddings of width {embeddings.values.shape[1]}, this teacher takes {width}",
            hint="make them with CLIP ViT-L/14",
        )
    return embeddings


def _read_numpy(file: Path) -> TextEmbeddings:
    try:
        values = torch.from_numpy(np.load(file, allow_pickle=False).astype(np.float32))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{file} does not hold an array of numbers: {error}", hint="restore the file") from error
    if values.ndim != 2 or not bool(torch.isfinite(values).all()):
        raise CheckpointError(
            f"{file}: expected finite numbers (N, width), found shape {tuple(values.shape)}", hint="name another file"
        )
    return TextEmbeddings(values, TextSource(prompts=file.name, sha256=content_hash(values)))


def _not_finite(tensors: dict[str, torch.Tensor], called: dict[str, str]) -> str:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            return f"tensor {called.get(name, name)} holds values that are not finite numbers"
    return ""


def _left_out(renamed: RenamedWeights) -> list[str]:
    """Return remarks on tensors of the file that no score uses, and on those of ours that it lacks."""

    def layers(names: tuple[str, ...]) -> str:  # `vae.decoder.conv_in.weight`, … -> `vae.decoder`, …; each once
        return ", ".join(dict.fromkeys(".".join(name.split(".")[:2]) for name in names))

    notes = []
    if renamed.unused:
        notes.append(f"left out {len(renamed.unused)} tensors that no score uses: {layers(renamed.unused)}")
    if renamed.spare:
        notes.append(f"{len(renamed.spare)} tensors that no score uses are not in the file: {layers(renamed.spare)}")
    return notes
