"""The prepared pixels of a data set as one array on disk that crops are cut from. Made once, resumable."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dpiqa.errors import ImageRejected, InvalidRequest
from dpiqa.files import locked_folder
from dpiqa.imaging.decode import decode_and_prepare
from dpiqa.imaging.limits import Limits
from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.training.preparing import blocks

_BLOCK = 64  #: pictures between two notes of how far the cache is


@dataclass(frozen=True, kw_only=True)
class PixelCache:
    """Pictures as their scorer will see them."""

    pixels: np.ndarray  #: (N, H, W, 3) uint8, mapped from the disk; rows of rejected pictures are black
    sha256: tuple[str, ...]  #: of each picture's file, hex
    rejected: dict[int, str]  #: row -> why its file cannot be decoded
    folder: Path  #: where the pixels are kept, and whatever else is made of them


def prepare_pixels(paths: Sequence[Path], preprocessing: Preprocessing, cache: Path) -> PixelCache:
    """Return the pixels of `paths`, decoded as in production, from a folder below `cache`.

    A killed process's work is kept. Pictures that changed on disk since are decoded anew. Raises `InvalidRequest`
    naming a file that cannot be read.
    """
    folder = cache / f"pixels-{_key(paths, preprocessing)}"
    with locked_folder(folder):
        notes = _Notes(folder / "files.jsonl")
        pixels = _open(folder / "pixels.npy", (len(paths), preprocessing.height, preprocessing.width, 3), notes)
        with ThreadPoolExecutor() as pool:  # decoders leave Python's lock alone
            for rows in blocks("decoding pictures", notes.count, len(paths), _BLOCK):
                done = list(pool.map(lambda row: _decode(paths[row], preprocessing, pixels[row]), rows))
                pixels.flush()
                notes.add(done)
    mapped: np.ndarray = np.load(folder / "pixels.npy", mmap_mode="r")
    rejected = {row: reason for row, (_, reason) in enumerate(notes.lines) if reason}
    return PixelCache(pixels=mapped, sha256=tuple(sha for sha, _ in notes.lines), rejected=rejected, folder=folder)


def _key(paths: Sequence[Path], preprocessing: Preprocessing) -> str:
    return hashlib.sha256("\n".join([preprocessing.version, *map(_stamp, paths)]).encode()).hexdigest()[:16]


def _stamp(path: Path) -> str:
    try:
        found = path.stat()
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}", hint="check the data set's folder") from error
    return f"{path.resolve()} {found.st_size} {found.st_mtime_ns}"


def _decode(path: Path, preprocessing: Preprocessing, row: np.ndarray) -> tuple[str, str]:
    """Fill `row`; returns the file's sha256 and why it was rejected ("" if it was not)."""
    data = path.read_bytes()
    reason = ""
    try:
        row[:] = decode_and_prepare(data, preprocessing, Limits())
    except ImageRejected as error:
        reason = error.reason.value
    return hashlib.sha256(data).hexdigest(), reason


def _open(file: Path, shape: tuple[int, ...], notes: "_Notes") -> "np.memmap[Any, Any]":
    if notes.count:
        return np.lib.format.open_memmap(file, mode="r+")
    return np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=shape)


class _Notes:
    """What is known of the files decoded so far: one line each, written after their pixels."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.lines = list(self._read())
        file.write_text("".join(map(_as_line, self.lines)), "utf-8")  # without what a killed process left half done

    @property
    def count(self) -> int:
        return len(self.lines)

    def add(self, lines: Sequence[tuple[str, str]]) -> None:
        with self._file.open("a", encoding="utf-8") as file:
            file.write("".join(map(_as_line, lines)))
        self.lines += lines

    def _read(self) -> Iterator[tuple[str, str]]:
        if self._file.exists():
            for line in self._file.read_text("utf-8").splitlines():
                try:
                    sha, reason = json.loads(line)
                except ValueError:
                    return
                yield sha, reason


def _as_line(note: tuple[str, str]) -> str:
    return json.dumps(note) + "\n"
