"""Safetensors files as the weights of networks; every tensor is accounted for."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from dpiqa.errors import CheckpointError
from dpiqa.models.weights_file import digest_of, digests_entry, find_damage


def load_strictly(network: nn.Module, weights: Path, dtype: torch.dtype) -> None:
    """Load the tensors of a safetensors file into a network that was built on the meta device.

    Floating-point tensors become `dtype` whatever the file holds. Raises `CheckpointError` naming the file and the
    first tensor that is cut off, missing, unexpected, of another shape or of another kind of numbers.
    """
    tensors = load_tensors(weights)
    complaint = mismatch(network.state_dict(), tensors)
    if complaint:
        raise CheckpointError(
            f"{weights}: {complaint}", hint="the weights are of another architecture than the card says"
        )
    converted = {name: t.to(dtype) if t.is_floating_point() else t for name, t in tensors.items()}
    network.load_state_dict(converted, strict=True, assign=True)
    network.requires_grad_(requires_grad=False)


def load_tensors(weights: Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file. Raises `CheckpointError` naming the file and, if it can be told, the damaged tensor."""
    try:
        return load_file(weights)
    except (SafetensorError, OSError) as error:
        reason = find_damage(weights) or str(error)
        raise CheckpointError(f"{weights} is not a safetensors file: {reason}", hint="restore the file") from error


def write_weights(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write a safetensors file that carries a digest of each tensor. Equal tensors make equal files, byte for byte.

    Raises `CheckpointError` if the file cannot be written.
    """
    owned = _without_sharing(tensors)
    digests = {name: digest_of(tensor.reshape(-1).view(torch.uint8).numpy()) for name, tensor in owned.items()}
    try:
        save_file(owned, path, metadata=digests_entry(digests))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be written: {error}", hint="check the free space") from error


def mismatch(
    expected: Mapping[str, torch.Tensor],
    tensors: Mapping[str, torch.Tensor],
    names: Mapping[str, str] | None = None,
) -> str:
    """Describe the first difference in names, shapes and kinds of numbers, and count the others; "" if there is none.

    `names`: other names of some of the tensors, for the message.
    """
    names = names or {}
    differences = [
        f"tensor {names.get(name, name)} {difference}"
        for name in [*expected, *(name for name in tensors if name not in expected)]
        if (difference := _difference(expected.get(name), tensors.get(name)))
    ]
    more = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
    return differences[0] + more if differences else ""


def _difference(expected: torch.Tensor | None, tensor: torch.Tensor | None) -> str:
    if tensor is None:
        return "is missing"
    if expected is None:
        return "is unexpected"
    if expected.shape != tensor.shape:
        return f"has shape {tuple(tensor.shape)}, expected {tuple(expected.shape)}"
    if expected.is_floating_point() != tensor.is_floating_point():
        return f"holds {tensor.dtype}, expected {expected.dtype}"
    return ""


def _without_sharing(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors on the CPU, each with memory of its own: the format has neither views nor shared memory."""
    owned: dict[str, torch.Tensor] = {}
    addresses: set[int] = set()
    for name, tensor in tensors.items():
        copy = tensor.detach().cpu().contiguous()
        if copy.untyped_storage().nbytes() != copy.nbytes or copy.data_ptr() in addresses:
            copy = copy.clone()
        addresses.add(copy.data_ptr())
        owned[name] = copy
    return owned
