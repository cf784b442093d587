"""Measures of a picture as values, which the ledger stores and exports name. Standard library only.

`dpiqa.imaging.measures` makes them, and docs/measures.md defines them.
"""

import math
from dataclasses import asdict, dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """Measures of one picture. NaN where a picture is too small for one."""

    width: int  #: pixels, upright
    height: int  #: pixels, upright
    sharpness: float  #: 0 (blurred or flat) to 1: share of the gradients that a blur by 9 pixels removes
    contrast: float  #: 0 to 1: luma of the 95th less that of the 5th percentile
    clipped_dark: float  #: share of the pixels that are black, luma at most 5 of 255
    clipped_bright: float  #: share of the pixels that are white, luma at least 250 of 255
    noise: float  #: standard deviation of fine grain in the most uniform places, in luma steps of 255
    blockiness: float  #: 0 or more: how much larger steps are on JPEG's grid of 8 pixels than elsewhere
    colour_cast: float  #: 0 to about 0.6: distance of the mean colour from grey, in Cb and Cr

    def as_row(self) -> dict[str, int | float | None]:
        """Return the measures by name; None where a picture is too small for one."""
        return {name: None if math.isnan(value) else value for name, value in asdict(self).items()}


MEASURE_NAMES = tuple(field.name for field in fields(Measures))
#: Decimals that are kept of measures that go with scores: more say nothing, and single precision holds these.
MEASURE_DIGITS = 4
