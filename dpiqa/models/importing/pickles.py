"""Published files as tensors. Nothing in a file is executed: pickles are read with `weights_only=True`."""

import pickletools
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dpiqa.errors import CheckpointError
from dpiqa.models.checkpoint import load_tensors
from dpiqa.text import reason_of

#: First bytes of files that are mistaken for checkpoints, what they are, and what to do.
_MISTAKEN = (
    (b"version https://git-lfs", "it is a Git LFS pointer, not the file", "fetch the file itself (`git lfs pull`)"),
    (b"<", "it is a web page, not a checkpoint", "open the address in a browser and download the file by hand"),
    (b"{", "it is a JSON document, not a checkpoint", "name the file with the weights"),
)
#: The part of a message of torch's unpickler that names what it refused.
_FORBIDDEN = re.compile(r"GLOBAL ([\w.]+)|Unsupported (operand \d+)")
_PICKLE = (b"PK\x03\x04", b"\x80")
_SCALAR: Any = np.float64(0).__reduce__()[0]
#: Figures that training scripts leave beside the weights: plain numbers, pickled through these. numpy renamed its core.
_SCALARS: list[Any] = [
    np.dtype,
    *(type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool")),
    *((_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]


@dataclass(frozen=True, slots=True)
class PublishedWeights:
    """A state dict as it was published, without the prefix of data-parallel training."""

    tensors: dict[str, torch.Tensor]
    notes: tuple[str, ...]  #: remarks for the user


def read_checkpoint(file: Path) -> PublishedWeights:
    """Read safetensors, or what `torch.save` wrote: a state dict, or a dict with one at `state_dict`.

    Raises `CheckpointError` naming the file and what is wrong with it: missing, damaged, not a checkpoint, or a pickle
    that would run code.
    """
    if not file.is_file():
        raise CheckpointError(f"there is no file {file}", hint="check the path")
    with file.open("rb") as opened:
        start = opened.read(64)
    for mark, reason, hint in _MISTAKEN:
        if start.lstrip().startswith(mark):
            raise CheckpointError(f"{file}: {reason}", hint=hint)
    if not start.startswith(_PICKLE):
        return PublishedWeights(_unwrapped(load_tensors(file), file), ())
    note = f"{file.name} is a Python pickle, read as tensors and numbers only (weights_only); nothing in it was run"
    return PublishedWeights(_unwrapped(_read_pickle(file), file), (note,))


def _read_pickle(file: Path) -> Any:
    zipped = zipfile.is_zipfile(file)
    if zipped:
        _check_records(file)
    try:
        with torch.serialization.safe_globals(_SCALARS):
            return torch.load(file, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # damaged and hostile pickles raise anything
        refused = _FORBIDDEN.search(str(error))
        if refused:
            raise CheckpointError(
                f"{file} was refused: the pickle contains more than tensors and numbers: {refused[1] or refused[2]}",
                hint="loading it might run its author's code; ask for a safetensors file",
            ) from error
        reason = reason_of(error).partition(". ")[0]
        size = file.stat().st_size
        raise CheckpointError(
            f"{file} is damaged or cut off ({size:,} bytes): {reason}", hint="download it again"
        ) from error


def _check_records(file: Path) -> None:
    """Raise `CheckpointError` naming the first tensor whose bytes are not those of its checksum."""
    with zipfile.ZipFile(file) as archive:
        checked = [info for info in archive.infolist() if info.CRC]  # torch can write files without checksums
        broken = next((info.filename for info in checked if not _is_whole(archive, info)), None)
        if broken is None:
            return
        names = _tensor_names(archive)
    tensor = names.get(broken.rpartition("/")[2], "")
    damaged = f"tensor {tensor}" if tensor else f"its part {broken}"
    raise CheckpointError(f"{file}: {damaged} is not what its checksum says", hint="download it again")


def _is_whole(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bool:
    try:
        with archive.open(info) as record:
            while record.read(2**20):
                pass
    except (zipfile.BadZipFile, EOFError):
        return False
    return True


def _tensor_names(archive: zipfile.ZipFile) -> dict[str, str]:
    """Return each storage's tensor (`17` -> name), from the pickle's opcodes, without running it; {} if unreadable."""
    try:
        pickle = next(info for info in archive.infolist() if info.filename.endswith("/data.pkl"))
        return dict(_named_storages(archive.read(pickle)))
    except (StopIteration, ValueError, zipfile.BadZipFile):
        return {}


def _named_storages(pickle: bytes) -> Iterator[tuple[str, str]]:
    """Yield storage keys and tensor names: in a state dict a tensor's name comes first, then its storage's number."""
    name = ""
    for _, argument, _ in pickletools.genops(pickle):
        if not isinstance(argument, str):
            continue
        if argument.isdigit():
            yield argument, name
        elif argument not in {"storage", "cpu", "module"} and " " not in argument and ":" not in argument:
            name = argument


def _unwrapped(content: Any, file: Path) -> dict[str, torch.Tensor]:
    """Return the state dict inside a training checkpoint, without the prefix `module.` of its names."""
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not content:
        kind = "is empty" if isinstance(content, Mapping) else f"is a {type(content).__name__}"
        raise CheckpointError(f"{file} holds no state dict: what it holds {kind}", hint="name a file of named tensors")
    odd = next((name for name, value in content.items() if not _is_plain(value)), None)
    if odd is not None:
        keys = ", ".join(sorted(map(str, content))[:5])
        raise CheckpointError(
            f"{file}: {odd} is a {type(content[odd]).__name__}, not a tensor of plain numbers (it holds {keys}, …)",
            hint="name a file with a state dict, or a dict with one at state_dict",
        )
    prefix = "module." if all(str(name).startswith("module.") for name in content) else ""
    return {str(name).removeprefix(prefix): value.detach() for name, value in content.items()}


def _is_plain(value: Any) -> bool:
    """Return whether this is a tensor with all its numbers: not sparse, not quantised, not on the meta device."""
    is_tensor = isinstance(value, torch.Tensor)
    return is_tensor and value.layout is torch.strided and not value.is_quantized and not value.is_meta
