"""A run's state on disk: `last.pt` to resume from, `best.safetensors` for the result. Both are replaced as a whole."""

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
from dpiqa.training.loop.optimise import MovingAverage, learned_tensors

LAST_NAME, BEST_NAME = "last.pt", "best.safetensors"
_FORMAT = 1


@dataclass(kw_only=True)
class RunProgress:
    """The part of a run's state that is not tensors."""

    step: int = 0  #: updates done
    best_step: int = 0  #: of the best validation; 0: none yet
    best_merit: float | None = None
    best_figures: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0  #: spent training, over all processes that worked on the run
    sums: dict[str, float] = field(default_factory=dict)  #: terms of the loss since the last line of the log
    summed: int = 0  #: updates in `sums`


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """The objects whose tensors are a run's state."""

    network: nn.Module
    optimiser: torch.optim.Optimizer
    average: MovingAverage | None
    scaler: torch.amp.GradScaler  #: does nothing unless the plan's precision is float16


def save_last(out: Path, state: TrainingState, progress: RunProgress, identity: Mapping[str, Any]) -> None:
    """Write everything that a later process needs to resume. Only what training changes: frozen parts are rebuilt."""
    document = {
        "format": _FORMAT,
        "identity": json.dumps(identity, sort_keys=True),
        "progress": vars(progress),
        "learned": {name: tensor.detach() for name, tensor in learned_tensors(state.network).items()},
        "average": state.average and {"tensors": state.average.tensors, "updates": state.average.updates},
        "optimiser": state.optimiser.state_dict(),
        "scaler": state.scaler.state_dict(),
    }
    replace_file(out / LAST_NAME, lambda partial: torch.save(document, partial))


def load_last(out: Path, state: TrainingState, identity: Mapping[str, Any]) -> RunProgress:
    """Load the state in `out` and return its progress; without a file, that of a run that has not begun.

    Raises `ConfigurationError` naming the first setting in which that run differs, `CheckpointError` on a damaged file.
    """
    file = out / LAST_NAME
    if not file.exists():
        return RunProgress()
    try:
        document = torch.load(file, weights_only=True, map_location="cpu")
        saved_identity = json.loads(document["identity"])
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        hint = "restore the file, or remove it to start again from the beginning"
        raise CheckpointError(f"{file} cannot be read: {error}", hint=hint) from error
    for name, now, then in _differences(json.loads(json.dumps(identity)), saved_identity):
        raise ConfigurationError(
            f"{out} holds a run with another {name}: {then!r}, now {now!r}",
            hint="give the settings it was begun with, or another output folder",
        )
    _fill(learned_tensors(state.network), document["learned"])
    if state.average is not None:
        _fill(state.average.tensors, document["average"]["tensors"])
        state.average.updates = document["average"]["updates"]
    state.optimiser.load_state_dict(document["optimiser"])
    state.scaler.load_state_dict(document["scaler"])
    return RunProgress(**document["progress"])


def save_best(out: Path, network: nn.Module) -> None:
    """Write the network's learned tensors."""
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


def _differences(now: Any, then: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield dotted name, present and saved value of every setting that differs."""
    if isinstance(now, dict) and isinstance(then, dict):
        for key in sorted(now.keys() | then.keys()):
            yield from _differences(now.get(key), then.get(key), f"{name}.{key}".lstrip("."))
    elif now != then:
        yield name or "identity", now, then
