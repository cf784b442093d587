"""Provenance of a figure or a model, fit to be published: command, machine, version, digests of weights.

Without dates, names of people and folders: the reader of a card sees what to type, not where it was typed.
"""

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path, PurePath
from typing import Any

#: Keys of `stamp`. `weights` tells whether a figure still holds (see `dpiqa.models.cards`).
COMMAND, MACHINE, VERSION, WEIGHTS = "command", "machine", "dpiqa", "weights"


def commit() -> str | None:
    """Return the commit of this program: of its build, else of its checkout (`-dirty`: with changes), else None."""
    package = Path(__file__).parent
    if (built := package / "commit.txt").is_file():
        return built.read_text("utf-8").strip()
    if not (package.parent / ".git").exists():
        return None
    command = ["git", "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty"]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=package, timeout=5)
    except (OSError, subprocess.TimeoutExpired):  # no git on this machine
        return None
    return done.stdout.strip() or None


def stamp(command: str, weights: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of every measured section of a card. `weights`: sha256 in hex by the model's name."""
    return {COMMAND: command, MACHINE: describe_machine(), VERSION: version("dpiqa"), WEIGHTS: dict(weights)}


def shareable_path(path: str) -> str:
    """Return a path that may be shown to others: a relative one as it is, else (absolute, `~`) its last part."""
    private = PurePath(path).is_absolute() or path.startswith("~")
    return (PurePath(path).name or ".") if private else path


def shareable(value: Any) -> Any:
    """Return a JSON value with every string in it as `shareable_path` shows it."""
    match value:
        case str():
            return shareable_path(value)
        case list():
            return [shareable(item) for item in value]
        case dict():
            return {key: shareable(item) for key, item in value.items()}
    return value


def describe_machine() -> str:
    """Return the machine's hardware in a few words, e.g. `AMD EPYC Processor, 2 CPU cores, no GPU`."""
    torch = sys.modules.get("torch")  # where it was not imported, nothing was computed on a GPU
    gpu = str(torch.cuda.get_device_name()) if torch is not None and torch.cuda.is_available() else "no GPU"
    return f"{cpu_name()}, {os.cpu_count()} CPU cores, {gpu}"


def cpu_name() -> str:
    """Return the name of the processor, else its architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
