"""Where a figure or a model comes from, in words that may be published: command, machine, version, digests of weights.

No dates, no names of people, no folders: whoever reads a card sees what to type, not where it was typed.
"""

import os
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path, PurePath
from typing import Any

#: Keys of `stamp`. Whether a figure still holds is told from `weights` (see `dpiqa.models.cards`).
COMMAND, MACHINE, VERSION, WEIGHTS = "command", "machine", "dpiqa", "weights"


def stamp(command: str, weights: Mapping[str, str]) -> dict[str, Any]:
    """Return what every measured section of a card carries. `weights`: sha256 in hex by the model's name."""
    return {COMMAND: command, MACHINE: describe_machine(), VERSION: version("dpiqa"), WEIGHTS: dict(weights)}


def shareable_path(path: str) -> str:
    """Return the path as it may be shown to others: relative as it is, else (absolute, `~`) its last part alone."""
    private = PurePath(path).is_absolute() or path.startswith("~")
    return (PurePath(path).name or ".") if private else path


def shareable(value: Any) -> Any:
    """Return a JSON value with every string in it as `shareable_path` shows it."""
    match value:
        case str():
            return shareable_path(value)
        case list():
            return [shareable(one) for one in value]
        case dict():
            return {key: shareable(one) for key, one in value.items()}
    return value


def describe_machine() -> str:
    """Say in a few words what this machine computes with, e.g. `AMD EPYC Processor, 2 CPU cores, no GPU`."""
    return f"{cpu_name()}, {os.cpu_count()} CPU cores, {_gpu()}"


def cpu_name() -> str:
    """Return what the processor calls itself, else its architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _gpu() -> str:
    """Name the GPU that torch sees. Nothing was computed on one where torch was not even imported."""
    torch = sys.modules.get("torch")
    return str(torch.cuda.get_device_name()) if torch is not None and torch.cuda.is_available() else "no GPU"
