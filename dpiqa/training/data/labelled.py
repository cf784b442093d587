"""Pictures with labels: the pixels of the data sets as one array on disk, and which of them are learned from."""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import structlog

from dpiqa.datasets.load import PUBLISHED, RANDOM, load_dataset
from dpiqa.datasets.spec import LabelledImage
from dpiqa.errors import ImageRejected, InvalidRequest
from dpiqa.imaging.decode import Limits, decode_and_prepare
from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.training.config.run import DataConfig
from dpiqa.training.data.array_cache import cached_rows_with_notes
from dpiqa.training.data.features import cached_statistics
from dpiqa.training.data.frozen import Frozen

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """All pictures of the data sets, (N, S, S, 3) uint8, and their labels."""

    pixels: np.ndarray
    labels: np.ndarray  #: (N,) MOS, 0-1
    train: np.ndarray  #: row numbers to learn from
    val: np.ndarray  #: row numbers that choose the best checkpoint
    sha256: tuple[str, ...]  #: of each picture's file
    images: tuple[LabelledImage, ...]
    folder: Path  #: of the pixels in the cache
    statistics: np.ndarray | None = None  #: (N, m, m, C) float16, for networks that use them: see `with_statistics`
    frozen: Frozen | None = None  #: outputs of what does not learn of a backbone

    def with_statistics(self) -> "Labelled":
        """Return the same with the scene statistics of all pictures, which are computed unless they are cached."""
        return replace(self, statistics=cached_statistics(self.pixels, self.folder))

    @property
    def extent(self) -> int:
        """Pixels a side."""
        return int(self.pixels.shape[1])

    @property
    def centre(self) -> float:
        """Mean of the training labels."""
        return float(self.labels[self.train].mean())

    @property
    def spread(self) -> float:
        """Standard deviation of the training labels."""
        return float(self.labels[self.train].std())

    @property
    def digest(self) -> str:
        """SHA-256 over files, labels and sides: equal for two runs that learn from the same."""
        sides = [(row, "train") for row in self.train] + [(row, "select") for row in self.val]
        lines = sorted(f"{self.sha256[row]} {self.labels[row]:.6f} {side}" for row, side in sides)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def validation_images(self) -> list[LabelledImage]:
        """Return the images that choose the best checkpoint."""
        return [self.images[row] for row in self.val]


def load_images(config: DataConfig) -> list[LabelledImage]:
    """Return the images of all sets. Raises `InvalidRequest` if none is named, and what the readers raise."""
    if not config.sets:
        raise InvalidRequest("no data set is named", hint="give --dataset NAME --data DIR, or data.sets in the file")
    val_share = config.val_share if config.select_on == "val" else 0.0
    images: list[LabelledImage] = []
    for entry in config.sets:
        split = entry.split if entry.split in {PUBLISHED, RANDOM} else Path(entry.split)
        data_set = load_dataset(entry.name, entry.path, split=split, split_seed=entry.split_seed, val_share=val_share)
        images += data_set.images
    return images


def load_labelled(images: Sequence[LabelledImage], preprocessing: Preprocessing, config: DataConfig) -> Labelled:
    """Load the pixels of all images through the cache. Raises `InvalidRequest` if a side is empty or a file is bad."""
    used = [image for image in images if image.split in {"train", config.select_on}]
    cache = cached_pixels([image.path for image in used], preprocessing, config.cache)
    for row, reason in cache.rejected.items():
        log.warning("training_image_rejected", path=str(used[row].path), reason=reason)
        if config.unreadable == "refuse":
            raise InvalidRequest(
                f"{used[row].path} cannot be decoded ({reason}); {len(cache.rejected)} such in all",
                hint='restore it, or set data.unreadable = "skip"',
            )
    good = np.setdiff1d(np.arange(len(used)), list(cache.rejected))
    splits = np.array([image.split for image in used])
    train, val = (good[splits[good] == split] for split in ("train", config.select_on))
    if min(len(train), len(val)) < 2:
        raise InvalidRequest(
            f"the data has {len(train)} images to train on and {len(val)} of split {config.select_on!r} to choose on",
            hint="it needs both: see data.select_on, and the split column of a CSV",
        )
    labels = np.array([image.mos for image in used])
    if not labels[train].std() > 0:
        raise InvalidRequest("all training images have the same label", hint="there is nothing to learn from it")
    return Labelled(
        pixels=cache.pixels,
        labels=labels,
        train=train,
        val=val,
        sha256=cache.sha256,
        images=tuple(used),
        folder=cache.folder,
    )


def evenly(rows: np.ndarray, most: int | None) -> np.ndarray:
    """Return at most `most` of the rows, evenly spread; all if it is None."""
    count = min(most or len(rows), len(rows))
    spread: np.ndarray = rows[np.linspace(0, len(rows) - 1, count).round().astype(int)]
    return spread


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
