"""Arrays on disk that are computed once: the work of a killed process is kept, and runs share it.

Two layouts: the rows of one array, computed in order (`cached_rows`), and one file for each key (`cached_files`).
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike
from safetensors.numpy import save_file

from dpiqa.files import locked_folder, replace_file, replace_text
from dpiqa.training.progress import blocks

BLOCK = 64  #: rows between two notes of progress: what a killed process loses at most


@dataclass(frozen=True, kw_only=True)
class CachedRows:
    """An array that is complete."""

    array: np.ndarray  #: (N, ...), mapped from the disk
    notes: list[Any]  #: (N,) JSON values


def cached_rows(
    file: Path, shape: tuple[int, ...], dtype: DTypeLike, make: Callable[[range], Iterable[np.ndarray]], *, label: str
) -> np.ndarray:
    """Return the array (N, ...) of `file`; see `cached_rows_with_notes`."""

    def make_with_notes(rows: range) -> Iterable[tuple[np.ndarray, None]]:
        return ((row, None) for row in make(rows))

    return cached_rows_with_notes(file, shape, dtype, make_with_notes, label=label).array


def cached_rows_with_notes(
    file: Path,
    shape: tuple[int, ...],
    dtype: DTypeLike,
    make: Callable[[range], Iterable[tuple[np.ndarray, Any]]],
    *,
    label: str,
) -> CachedRows:
    """Return the array (N, ...) of `file` and a note (a JSON value) of every row.

    `make` computes the rows that are missing, with their notes. `file` needs a folder of its own, whose name must state
    everything that the rows depend on. `label`: what the rows are, for progress reports.
    """
    with locked_folder(file.parent):
        notes = RowNotes(file.with_suffix(".jsonl"))
        array: np.memmap[Any, Any] = (
            np.lib.format.open_memmap(file, mode="r+")
            if notes.lines
            else np.lib.format.open_memmap(file, mode="w+", dtype=dtype, shape=shape)
        )
        for rows in blocks(label, len(notes.lines), shape[0], BLOCK):
            block: list[Any] = []
            for row, (value, note) in zip(rows, make(rows), strict=True):
                array[row] = value
                block.append(note)
            array.flush()
            notes.add(block)
    return CachedRows(array=np.load(file, mmap_mode="r"), notes=notes.lines)


class RowNotes:
    """Notes of the finished rows of an array, one line of JSON each; a line is written after its row."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.lines: list[Any] = []
        if not file.exists():
            return
        for line in file.read_text("utf-8").splitlines():
            try:
                self.lines.append(json.loads(line))
            except ValueError:
                break  # a killed process wrote half of it
        replace_text(file, _as_lines(self.lines))

    def add(self, notes: Sequence[Any]) -> None:
        """Append the notes of the next rows."""
        with self.file.open("a", encoding="utf-8") as file:
            file.write(_as_lines(notes))
        self.lines += notes


def _as_lines(notes: Sequence[Any]) -> str:
    return "".join(json.dumps(note) + "\n" for note in notes)


def cached_files(
    files: Sequence[Path],
    make: Callable[[list[int]], Iterable[Mapping[str, np.ndarray]]],
    *,
    folder: Path,
    label: str,
    block: int,
) -> None:
    """Write those of `files` below `folder` that do not exist yet, as safetensors, each as a whole.

    `make` gets the positions of some of them, at most `block`, and computes the tensors of each.
    """
    with locked_folder(folder):
        missing = [index for index, file in enumerate(files) if not file.exists()]
        for rows in blocks(label, 0, len(missing), block):
            indices = [missing[row] for row in rows]
            for index, tensors in zip(indices, make(indices), strict=True):
                files[index].parent.mkdir(parents=True, exist_ok=True)
                replace_file(files[index], partial(save_file, dict(tensors)))
