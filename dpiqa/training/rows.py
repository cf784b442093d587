"""An array on disk that is filled row by row, once: a killed process's work is kept."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from dpiqa.files import locked_folder, replace_text
from dpiqa.training.preparing import blocks

_BLOCK = 64  #: rows between two notes of how far it is


def filled_rows(
    file: Path, shape: tuple[int, ...], dtype: DTypeLike, make: Callable[[range], Iterable[np.ndarray]], *, what: str
) -> np.ndarray:
    """Return the array (N, ...) of `file`, mapped from the disk; `make` gives the rows that are not there yet.

    The folder of `file` must be its own, and its name must say all that the rows depend on. `what` they are, for who
    watches.
    """
    note = file.with_suffix(".rows")
    with locked_folder(file.parent):
        done = int(note.read_text("ascii")) if note.exists() else 0
        array: np.memmap[Any, Any] = (
            np.lib.format.open_memmap(file, mode="r+")
            if done
            else np.lib.format.open_memmap(file, mode="w+", dtype=dtype, shape=shape)
        )
        for rows in blocks(what, done, shape[0], _BLOCK):
            for row, value in zip(rows, make(rows), strict=True):
                array[row] = value
            array.flush()
            replace_text(note, str(rows.stop))
    mapped: np.ndarray = np.load(file, mmap_mode="r")
    return mapped
