"""Weights files into networks: safetensors only, every tensor accounted for."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from dpiqa.errors import CheckpointError


def load_strictly(network: nn.Module, weights: Path, dtype: torch.dtype) -> None:
    """Put the tensors of a safetensors file into a network that was built on the meta device.

    Floating-point tensors become `dtype` whatever the file holds. Raises `CheckpointError` naming the file and the
    first tensor that is missing, unexpected or of another shape.
    """
    try:
        found = load_file(weights)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{weights} is not a safetensors file: {error}", cure="restore the file") from error
    complaint = mismatch(network.state_dict(), found)
    if complaint:
        raise CheckpointError(
            f"{weights}: {complaint}", cure="the weights are of another architecture than the card says"
        )
    converted = {name: t.to(dtype) if t.is_floating_point() else t for name, t in found.items()}
    network.load_state_dict(converted, strict=True, assign=True)
    network.requires_grad_(requires_grad=False)


def mismatch(expected: dict[str, torch.Tensor], found: dict[str, torch.Tensor]) -> str:
    """Say the first difference in names and shapes, in words; "" if there is none."""
    for name, tensor in expected.items():
        if name not in found:
            return f"tensor {name} is missing"
        if found[name].shape != tensor.shape:
            return f"tensor {name} has shape {tuple(found[name].shape)}, expected {tuple(tensor.shape)}"
    unexpected = next((name for name in found if name not in expected), None)
    return f"tensor {unexpected} is unexpected" if unexpected else ""
