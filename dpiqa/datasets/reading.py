"""How label files become rows, and what a data set is, before anything is known of the disk."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from dpiqa.datasets.tables import Column, header, number, read_columns


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled image as the set publishes it."""

    image: str  #: path below the folder of images
    score: float  #: on the set's own scale
    split: str = ""  #: published: `train`, `val` or `test`; "" if the set publishes none
    subset: str = ""
    group: str = ""  #: reference image, or whatever must stay on one side of a random split


@dataclass(frozen=True, slots=True)
class Reader:
    """One published layout: a label file beside a folder of images, relative to the set's root."""

    files: tuple[str, ...]  #: names the label file goes by; the first that is there is read
    folders: tuple[str, ...]  #: names the folder of images goes by; "" is the root
    rows: Callable[[Path], Iterable[Row]]  #: reads the label file


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSpec:
    """What is published about a data set, and how to read it."""

    name: str  #: what commands call it
    title: str
    size: int  #: labelled images in the whole set; 0: any number
    worst: float  #: the end of the label scale that means bad
    best: float  #: and the one that means good; below `worst` for DMOS
    split: str  #: which official split there is, or how it is split otherwise
    layout: tuple[str, ...]  #: files and folders expected below the root
    terms: str
    homepage: str
    citation: str
    readers: tuple[Reader, ...] = field(repr=False)
    groups: str = ""  #: what stays on one side of a random split; "": each image for itself
    note: str = ""  #: what a reader of the labels should know
    slack: float = 0.05  #: labels this far beyond an end, as a part of the scale, count as that end

    @property
    def label(self) -> str:
        """Return `MOS` (higher is better) or `DMOS` (lower is better)."""
        return "MOS" if self.best > self.worst else "DMOS"

    @property
    def scale(self) -> str:
        """Return the two ends of the label scale, the bad one first, in words."""
        return f"{self.worst:g} to {self.best:g}"

    @property
    def also_read(self) -> tuple[str, ...]:
        """Return the label files that are read in place of the first one."""
        files = [file for reader in self.readers for file in reader.files]
        return tuple(file for file in files if not any(file in expected for expected in self.layout))

    def normalised(self, score: float) -> float:
        """Map a published score to 0-1, higher is better. The scale is fixed: part of a set gets the same labels."""
        return (score - self.worst) / (self.best - self.worst)


def table(
    image: Column,
    score: Column,
    *,
    file_name: Callable[[str], str] = str,
    subset: Callable[[str], str] = lambda _: "",
    group: Callable[[str], str] = lambda _: "",
    split: str = "",
) -> Callable[[Path], list[Row]]:
    """Read a CSV or Excel file with one row an image.

    `file_name` makes a file's name of the image column; `subset` and `group` are told that name.
    """

    def rows(path: Path) -> list[Row]:
        found = []
        for text, value in read_columns(path, (image, score)):
            name = file_name(text)
            found.append(Row(name, number(value, path), split, subset(name), group(name)))
        return found

    return rows


def unified_list(file: str, *folders: str) -> Reader:
    """Read the label lists of the University of Waterloo's IQA-Dataset project: the same form for many sets.

    Their paths begin with the set's own folder, which is the root here.
    """

    def rows(path: Path) -> list[Row]:
        references = ("ref_img_path",) if "ref_img_path" in header(path) else ()
        return [
            Row(image.partition("/")[2], number(score, path), "", kind, Path(*reference).stem.casefold())
            for image, kind, score, *reference in read_columns(path, ("dis_img_path", "dis_type", "score", *references))
        ]

    return Reader((file,), folders or ("",), rows)
