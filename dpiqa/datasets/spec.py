"""Specifications of data sets: what is published about them, the layouts they come in, and their labelled images."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """An image and its label. The file may be missing or damaged, which is found when it is opened."""

    path: Path
    mos: float  #: mean opinion score, 0-1, higher is better
    split: str  #: `train`, `val` or `test`
    subset: str = ""  #: part of the set, e.g. a kind of distortion; "" where the set has none
    group: str = ""  #: reference image or near-duplicates, kept on one side of a split; "" if the image stands alone


@dataclass(frozen=True, slots=True)
class LabelRow:
    """One labelled image as the set publishes it."""

    image: str  #: path below the folder of images
    score: float  #: on the set's own scale
    split: str = ""  #: published: `train`, `val` or `test`; "" if the set publishes none
    subset: str = ""
    group: str = ""  #: reference image, or whatever must stay on one side of a random split


@dataclass(frozen=True, slots=True)
class LayoutReader:
    """One published layout: a label file beside a folder of images, relative to the set's root."""

    files: tuple[str, ...]  #: possible names of the label file; the first that exists is read
    folders: tuple[str, ...]  #: possible names of the folder of images; "" is the root
    rows: Callable[[Path], Iterable[LabelRow]]  #: reads the label file


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSpec:
    """Published facts about a data set, and its readers."""

    name: str  #: in commands
    title: str
    size: int  #: labelled images in the whole set; 0: any number
    worst: float  #: the end of the label scale that means bad
    best: float  #: and the one that means good; below `worst` for DMOS
    split: str  #: official split, or else the way it is split here
    layout: tuple[str, ...]  #: files and folders expected below the root
    terms: str
    homepage: str
    citation: str
    readers: tuple[LayoutReader, ...] = field(repr=False)
    groups: str = ""  #: images that stay on one side of a random split; "": each image alone
    note: str = ""  #: for readers of the labels
    slack: float = 0.05  #: labels this far beyond an end, as a part of the scale, count as that end

    @property
    def label(self) -> str:
        """`MOS` (higher is better) or `DMOS` (lower is better)."""
        return "MOS" if self.best > self.worst else "DMOS"

    @property
    def scale(self) -> str:
        """Two ends of the label scale, the bad one first, in words."""
        return f"{self.worst:g} to {self.best:g}"

    @property
    def also_read(self) -> tuple[str, ...]:
        """Label files that are read in place of the first one."""
        files = [file for reader in self.readers for file in reader.files]
        return tuple(file for file in files if not any(file in expected for expected in self.layout))

    def normalised(self, score: float) -> float:
        """Map a published score to 0-1, higher is better. The scale is fixed: a part of a set gets the same labels."""
        return (score - self.worst) / (self.best - self.worst)
