"""Weights files into networks and back: safetensors only, every tensor accounted for."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from dpiqa.errors import CheckpointError
from dpiqa.models.weights_file import digest_of, digests_entry, find_damage


def load_strictly(network: nn.Module, weights: Path, dtype: torch.dtype) -> None:
    """Put the tensors of a safetensors file into a network that was built on the meta device.

    Floating-point tensors become `dtype` whatever the file holds. Raises `CheckpointError` naming the file and the
    first tensor that is cut off, missing, unexpected, of another shape or of another kind of numbers.
    """
    found = load_tensors(weights)
    complaint = mismatch(network.state_dict(), found)
    if complaint:
        raise CheckpointError(
            f"{weights}: {complaint}", hint="the weights are of another architecture than the card says"
        )
    converted = {name: t.to(dtype) if t.is_floating_point() else t for name, t in found.items()}
    network.load_state_dict(converted, strict=True, assign=True)
    network.requires_grad_(requires_grad=False)


def load_tensors(weights: Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file. Raises `CheckpointError` naming the file and, if one is to blame, the tensor."""
    try:
        return load_file(weights)
    except (SafetensorError, OSError) as error:
        reason = find_damage(weights) or str(error)
        raise CheckpointError(f"{weights} is not a safetensors file: {reason}", hint="restore the file") from error


def write_weights(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write a safetensors file that carries a digest of each tensor. Equal tensors make equal files, byte for byte.

    Raises `CheckpointError` if the file cannot be written.
    """
    owned = _each_its_own(tensors)
    digests = {name: digest_of(tensor.reshape(-1).view(torch.uint8).numpy()) for name, tensor in owned.items()}
    try:
        save_file(owned, path, metadata=digests_entry(digests))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be written: {error}", hint="make room, or choose another disk") from error


def mismatch(
    expected: Mapping[str, torch.Tensor],
    found: Mapping[str, torch.Tensor],
    called: Mapping[str, str] | None = None,
) -> str:
    """Say the first difference in names, shapes and kinds of numbers, and how many there are; "" if there is none.

    `called`: other names by which the reader of the message knows some of the tensors.
    """
    names = called or {}
    differences = [
        f"tensor {names.get(name, name)} {difference}"
        for name in [*expected, *(name for name in found if name not in expected)]
        if (difference := _difference(expected.get(name), found.get(name)))
    ]
    more = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
    return differences[0] + more if differences else ""


def _difference(expected: torch.Tensor | None, found: torch.Tensor | None) -> str:
    if found is None:
        return "is missing"
    if expected is None:
        return "is unexpected"
    if expected.shape != found.shape:
        return f"has shape {tuple(found.shape)}, expected {tuple(expected.shape)}"
    if expected.is_floating_point() != found.is_floating_point():
        return f"holds {found.dtype}, expected {expected.dtype}"
    return ""


def _each_its_own(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors on the CPU, each in a memory of its own: the format knows neither views nor shared memory."""
    owned: dict[str, torch.Tensor] = {}
    taken: set[int] = set()
    for name, tensor in tensors.items():
        found = tensor.detach().cpu().contiguous()
        if found.untyped_storage().nbytes() != found.nbytes or found.data_ptr() in taken:
            found = found.clone()
        taken.add(found.data_ptr())
        owned[name] = found
    return owned
