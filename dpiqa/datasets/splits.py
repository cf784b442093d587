"""Splits of a data set into training, validation and test images. Pure, but for reading split files.

Random sides are drawn by ranking a hash of seed and key, so that they depend neither on the order of the rows, nor on
where a set lies, nor on a library's random generator.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from dpiqa.datasets.spec import LabelledImage
from dpiqa.errors import InvalidRequest, NotFound

SPLITS = ("train", "val", "test")
TRAIN_SHARE = 0.8
PAPER_SPLITS = 5  #: random splits of the paper's protocol, whose median is reported
_WORDS = {"training": "train", "validation": "val", "testing": "test"} | {name: name for name in SPLITS}


@dataclass(frozen=True, slots=True)
class SplitRows:
    """One division of a set: row numbers, ascending."""

    train: tuple[int, ...]
    test: tuple[int, ...]


def split_name(text: str) -> str:
    """Return `train`, `val` or `test` for the words that sets use for them. Raises `InvalidRequest` for others."""
    if text.strip().lower() not in _WORDS:
        raise InvalidRequest(f"{text!r} is not a split", hint=f"one of {', '.join(SPLITS)}")
    return _WORDS[text.strip().lower()]


def random_split(keys: Sequence[str], *, seed: int = 0, train_share: float = TRAIN_SHARE) -> SplitRows:
    """Divide rows at random so that equal keys stay on one side.

    `train_share` (0-1) counts distinct keys, rounded; either side gets at least one where there are two.
    """
    ranked = sorted(set(keys), key=lambda key: hashlib.sha256(f"{seed}\0{key}".encode("utf-8", "replace")).digest())
    size = min(max(round(train_share * len(ranked)), 1), max(len(ranked) - 1, 1))
    train = set(ranked[:size])
    sides = [key in train for key in keys]
    return SplitRows(
        train=tuple(row for row, trained in enumerate(sides) if trained),
        test=tuple(row for row, trained in enumerate(sides) if not trained),
    )


def five_splits(images: Sequence[LabelledImage], *, seed: int = 0, splits: int = PAPER_SPLITS) -> tuple[SplitRows, ...]:
    """Return the random 80/20 splits of the paper's protocol (DP-IQA's median of five), seeds `seed`, `seed` + 1, ...

    Groups stay on one side. The images' own splits are ignored.
    """
    keys = split_keys([image.path for image in images], [image.group for image in images])
    return tuple(random_split(keys, seed=seed + number) for number in range(splits))


def split_keys(paths: Sequence[PurePath], groups: Sequence[str]) -> list[str]:
    """Return the key that decides each image's side: its group, else its name, whatever its case.

    Where names repeat, the key includes as many parent folders as are needed to tell the images apart.
    """
    alone = [path for path, group in zip(paths, groups, strict=True) if not group]
    depth = next((depth for depth in (1, 2) if len({_tail(path, depth) for path in alone}) == len(alone)), 0)
    return [f"group {group}" if group else _tail(path, depth) for path, group in zip(paths, groups, strict=True)]


def read_split_files(folder: Path) -> dict[str, str]:
    """Return the split of each image by its path, as LIQE publishes its ten splits.

    `folder` holds `*_train*.txt`, `*_val*.txt` and `*_test*.txt`; a line begins with a path and a tab.
    """
    if not folder.is_dir():
        raise NotFound(
            f"{folder} is not a folder", hint="published, random, or one split's folder, such as liqe_splits/BID/1"
        )
    splits: dict[str, str] = {}
    for split in SPLITS:
        for file in sorted(folder.glob(f"*_{split}*.txt")):
            for line in file.read_text("utf-8", "replace").splitlines():
                image = line.split("\t")[0].strip()
                if image and splits.setdefault(image, split) != split:
                    raise InvalidRequest(
                        f"{folder}: {image} is in {splits[image]} and in {split}", hint="correct the files"
                    )
    if {"train", "test"} - set(splits.values()):
        raise InvalidRequest(
            f"{folder} has no *_train*.txt and *_test*.txt with images", hint="is it a split's folder?"
        )
    return splits


def assign(paths: Sequence[PurePath], published: dict[str, str]) -> list[str]:
    """Return the split of each path: by name, or by name and folder where names repeat in the split files.

    The files may name more images than there are: the set may be a part. Raises `InvalidRequest` if they lack one.
    """
    names = Counter(PurePath(image).name.casefold() for image in published)
    depth = 1 if max(names.values()) == 1 else 2
    splits = {_tail(PurePath(image), depth): split for image, split in published.items()}
    unknown = [str(path) for path in paths if _tail(path, depth) not in splits]
    if unknown:
        raise InvalidRequest(
            f"the split files do not name {len(unknown)} of {len(paths)} images, such as {', '.join(unknown[:3])}",
            hint="take the split files of this data set",
        )
    return [splits[_tail(path, depth)] for path in paths]


def _tail(path: PurePath, depth: int) -> str:
    """Return the last `depth` parts of a path, all of them for 0, in small letters."""
    return "/".join(path.parts[-depth:]).casefold()
