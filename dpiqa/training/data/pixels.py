"""The prepared pixels of a data set as one array on disk that crops are cut from."""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dpiqa.errors import ImageRejected, InvalidRequest
from dpiqa.imaging.decode import Limits, decode_and_prepare
from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.training.data.array_cache import cached_rows_with_notes


@dataclass(frozen=True, kw_only=True)
class PixelCache:
    """Pictures as their scorer will see them."""

    pixels: np.ndarray  #: (N, H, W, 3) uint8, mapped from the disk; rows of rejected pictures are black
    sha256: tuple[str, ...]  #: of each picture's file, hex
    rejected: dict[int, str]  #: row -> why its file cannot be decoded
    folder: Path  #: of the pixels and of everything that is computed from them


def cached_pixels(paths: Sequence[Path], preprocessing: Preprocessing, cache: Path) -> PixelCache:
    """Return the pixels of `paths`, decoded as in production, from a folder below `cache`.

    Pictures that have changed on disk are decoded again. Raises `InvalidRequest` naming a file that cannot be read.
    """
    key = hashlib.sha256("\n".join([preprocessing.version, *map(_stamp, paths)]).encode()).hexdigest()[:16]
    folder = cache / f"pixels-{key}"

    def make(rows: range) -> Iterator[tuple[np.ndarray, tuple[str, str]]]:
        with ThreadPoolExecutor() as pool:  # decoders release Python's lock
            yield from pool.map(lambda row: decode(paths[row], preprocessing), rows)

    shape = (len(paths), preprocessing.height, preprocessing.width, 3)
    rows = cached_rows_with_notes(folder / "pixels.npy", shape, np.uint8, make, label="decoding pictures")
    return PixelCache(
        pixels=rows.array,
        sha256=tuple(sha256 for sha256, _ in rows.notes),
        rejected={row: reason for row, (_, reason) in enumerate(rows.notes) if reason},
        folder=folder,
    )


def _stamp(path: Path) -> str:
    try:
        stat = path.stat()
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}", hint="check the data set's folder") from error
    return f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}"


def decode(path: Path, preprocessing: Preprocessing) -> tuple[np.ndarray, tuple[str, str]]:
    """Return a picture's pixels (H, W, 3) uint8, its file's sha256, and why it was rejected ("" if it was not)."""
    data = path.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        return decode_and_prepare(data, preprocessing, Limits()), (sha256, "")
    except ImageRejected as error:
        black = np.zeros((preprocessing.height, preprocessing.width, 3), dtype=np.uint8)
        return black, (sha256, error.reason.value)
