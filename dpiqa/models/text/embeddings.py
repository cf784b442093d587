"""Files of text embeddings: one safetensors tensor `embeddings` (N, width), with its origin as metadata."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from dpiqa.errors import CheckpointError
from dpiqa.files import replace_file
from dpiqa.models.prompts import TextPooling
from dpiqa.text import first_field_error, reason_of

TENSOR = "embeddings"


class TextSource(BaseModel):
    """Origin of text embeddings: `architecture.text` of a card, and the metadata of an embeddings file."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    prompts: str  #: name of the table, e.g. `published-1485`; of the file for embeddings that others made
    encoder: str = "unknown"  #: `NAME@` and the start of the sha256 of its weights
    pooling: TextPooling | None = None  #: None: unknown
    reconstructed: bool = False  #: whether some of the words are a guess, see `PromptTable.reconstructed`
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")  #: of the embeddings' content
    made_from: str = ""  #: sha256 of all that went in: texts, tokens, weights, pooling; "" if unknown


@dataclass(frozen=True, slots=True)
class TextEmbeddings:
    """One vector per prompt, in the order of the table."""

    values: torch.Tensor  #: (N, width) float32, on the CPU
    source: TextSource


def content_hash(values: torch.Tensor) -> str:
    """Return the sha256 of the shape and float32 values of `values` (N, width), hex, whatever a file's layout is."""
    array = values.detach().to("cpu", torch.float32).contiguous().numpy()
    return hashlib.sha256(repr(array.shape).encode() + array.astype("<f4", copy=False).tobytes()).hexdigest()


def write_embeddings(path: Path, embeddings: TextEmbeddings) -> None:
    """Write the file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {key: str(value) for key, value in embeddings.source.model_dump(mode="json", exclude_none=True).items()}
    tensors = {TENSOR: embeddings.values.contiguous()}
    replace_file(path, lambda partial: save_file(tensors, partial, metadata=metadata))


def read_embeddings(path: Path) -> TextEmbeddings:
    """Read a file of ours, or a bare (N, width) tensor that `torch.save` wrote: then its source is unknown.

    Raises `CheckpointError` naming the file: unreadable, no such tensor, not finite, or not what its metadata says.
    """
    if not path.is_file():
        raise CheckpointError(f"there are no text embeddings at {path}", hint="make them: dpiqa models embed-text")
    embeddings = _read_bare(path) if path.suffix in {".pt", ".pth"} else _read_ours(path)
    if not bool(torch.isfinite(embeddings.values).all()):
        raise CheckpointError(f"{path}: some embeddings are not finite numbers", hint="make the embeddings again")
    return embeddings


def _read_ours(path: Path) -> TextEmbeddings:
    try:
        with safe_open(path, framework="pt") as file:
            metadata, names = file.metadata() or {}, list(file.keys())
            values = file.get_tensor(TENSOR) if names == [TENSOR] else None
        source = TextSource.model_validate(metadata)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}", hint="restore or make it again") from error
    except ValidationError as error:
        field = first_field_error(error).field
        raise CheckpointError(
            f"{path} does not say its {field}", hint="make it with dpiqa models embed-text"
        ) from error
    if values is None:
        raise CheckpointError(f"{path} holds {', '.join(names)}, expected {TENSOR} alone", hint="name another file")
    values = _as_table(values, path)
    if content_hash(values) != source.sha256:
        raise CheckpointError(f"{path}: the embeddings are not those its sha256 was made of", hint="make them again")
    return TextEmbeddings(values, source)


def _read_bare(path: Path) -> TextEmbeddings:
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are not a pickle make the unpickler raise anything
        reason = reason_of(error) if str(error) else "the file is empty"
        raise CheckpointError(f"{path} is not a tensor that torch.save wrote: {reason}", hint="restore it") from error
    values = _as_table(values, path)
    return TextEmbeddings(values, TextSource(prompts=path.name, sha256=content_hash(values)))


def _as_table(values: object, path: Path) -> torch.Tensor:
    if not isinstance(values, torch.Tensor) or values.ndim != 2 or not values.is_floating_point():
        shape = tuple(values.shape) if isinstance(values, torch.Tensor) else type(values).__name__
        raise CheckpointError(f"{path}: expected a float tensor (N, width), found {shape}", hint="name another file")
    return values.float()
