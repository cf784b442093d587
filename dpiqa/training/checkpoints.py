"""A run's state on disk: `last.pt` to go on from, `best.safetensors` to end with. Both are replaced as a whole."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from dpiqa.errors import CheckpointError, ConfigurationError
from dpiqa.files import replace_file
from dpiqa.training.optimise import MovingAverage, learned_tensors

LAST_NAME, BEST_NAME = "last.pt", "best.safetensors"
_FORMAT = 1


@dataclass(kw_only=True)
class Progress:
    """How far a run has come, apart from its tensors."""

    step: int = 0  #: updates done
    best_step: int = 0  #: where the best validation was; 0: none yet
    best_merit: float | None = None
    best_figures: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0  #: spent training, over all processes that had a hand in it
    sums: dict[str, float] = field(default_factory=dict)  #: terms of the loss since the last line of the log
    summed: int = 0  #: updates in `sums`


@dataclass(frozen=True, kw_only=True)
class Machinery:
    """The parts whose tensors make a run what it is."""

    network: nn.Module
    optimiser: torch.optim.Optimizer
    average: MovingAverage | None
    scaler: torch.amp.GradScaler  #: does nothing unless the plan's precision is float16


def save_last(out: Path, parts: Machinery, progress: Progress, identity: Mapping[str, Any]) -> None:
    """Write everything a later process needs to go on. Only what training changes: frozen parts are rebuilt."""
    state = {
        "format": _FORMAT,
        "identity": json.dumps(identity, sort_keys=True),
        "progress": vars(progress),
        "learned": {name: tensor.detach() for name, tensor in learned_tensors(parts.network).items()},
        "average": parts.average and {"tensors": parts.average.tensors, "updates": parts.average.updates},
        "optimiser": parts.optimiser.state_dict(),
        "scaler": parts.scaler.state_dict(),
    }
    replace_file(out / LAST_NAME, lambda partial: torch.save(state, partial))


def load_last(out: Path, parts: Machinery, identity: Mapping[str, Any]) -> Progress:
    """Put the state in `out` into the parts, and say how far it had come; nothing there: the beginning.

    Raises `ConfigurationError` naming the first setting in which that run differs, `CheckpointError` on a damaged file.
    """
    file = out / LAST_NAME
    if not file.exists():
        return Progress()
    try:
        state = torch.load(file, weights_only=True, map_location="cpu")
        found = json.loads(state["identity"])
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        hint = "restore the file, or remove it to begin anew"
        raise CheckpointError(f"{file} cannot be read: {error}", hint=hint) from error
    _require_same(json.loads(json.dumps(identity)), found, out)
    _fill(learned_tensors(parts.network), state["learned"])
    if parts.average is not None:
        _fill(parts.average.tensors, state["average"]["tensors"])
        parts.average.updates = state["average"]["updates"]
    parts.optimiser.load_state_dict(state["optimiser"])
    parts.scaler.load_state_dict(state["scaler"])
    return Progress(**state["progress"])


def save_best(out: Path, network: nn.Module) -> None:
    """Keep the learned tensors of the network as it is now."""
    tensors = {name: tensor.detach().contiguous() for name, tensor in learned_tensors(network).items()}
    replace_file(out / BEST_NAME, lambda partial: save_file(tensors, partial))


def load_best(out: Path, network: nn.Module) -> nn.Module:
    """Put the best tensors of the run in `out` into a network built as that run's was; in evaluation mode."""
    _fill(learned_tensors(network), load_file(out / BEST_NAME))
    return network.eval()


def _fill(targets: Mapping[str, torch.Tensor], values: Mapping[str, torch.Tensor]) -> None:
    if targets.keys() != values.keys():
        name = min(targets.keys() ^ values.keys())
        raise CheckpointError(f"the checkpoint is of another network: tensor {name}", hint="train in another folder")
    with torch.no_grad():
        for name, target in targets.items():
            target.copy_(values[name])


def _require_same(wanted: Any, found: Any, out: Path) -> None:
    for name, now, then in _differences(wanted, found):
        raise ConfigurationError(
            f"{out} holds a run with another {name}: {then!r}, now {now!r}",
            hint="give the settings it was begun with, or another output folder",
        )


def _differences(wanted: Any, found: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(wanted, dict) and isinstance(found, dict):
        for key in sorted(wanted.keys() | found.keys()):
            yield from _differences(wanted.get(key), found.get(key), f"{name}.{key}".lstrip("."))
    elif wanted != found:
        yield name or "identity", wanted, found
