"""One image with what people said about it: what training and evaluation are fed with."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """An image and its label. The file may be missing or broken: whoever opens it finds out, and says so."""

    path: Path
    mos: float  #: mean opinion score, 0-1, higher is better
    split: str  #: `train`, `val` or `test`
    subset: str = ""  #: what part of the set it is, e.g. a kind of distortion; "" where the set has none
    group: str = ""  #: reference image or near-duplicates, kept on one side of a split; "" if the image stands alone
