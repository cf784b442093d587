"""Precision and recall of a cut-off on labelled images, with intervals, and the cut-off for a wanted precision. Pure.

A cut-off *rejects* an image whose score is worse than the cut-off: below it where higher scores are better, above it
where lower ones are. A score that equals the cut-off is accepted.

Intervals are Wilson's score intervals of a proportion (Wilson, JASA 22, 1927; recommended for small numbers by Brown,
Cai and DasGupta, Statistical Science 16, 2001). They hold for a random sample of the images that they are about: labels
of images that were chosen by their score, as those around a cut-off, are not one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from dpiqa.types import Direction

MIN_LABELS = 30  #: with fewer, no precision and recall are given
LEVEL = 0.95  #: of the intervals
MAX_POINTS = 200  #: of a curve


@dataclass(frozen=True, slots=True)
class LabelledScore:
    """The score of an image that a person has labelled."""

    score: float
    rejected: bool  #: by the person


@dataclass(frozen=True, slots=True, kw_only=True)
class Proportion:
    """A share of `n` images, with its Wilson interval. `n` is at least 1."""

    value: float  #: 0 to 1
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CutoffFigures:
    """Precision and recall of rejection at one cut-off."""

    cutoff: float
    precision: Proportion | None  #: of the images that it rejects, those that people reject; None: it rejects none
    recall: Proportion | None  #: of the images that people reject, those that it rejects; None: people reject none


def wilson(hits: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Return the lower and upper bound (0-1) of a proportion of `hits` in `n`, 0 <= hits <= n, n >= 1."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = hits / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At the ends the bounds are exactly 0 and 1; computed, they miss them by a rounding error.
    return (0.0 if hits == 0 else middle - half), (1.0 if hits == n else middle + half)


def rejects(cutoff: float, score: float, direction: Direction) -> bool:
    """Return whether a cut-off rejects a score."""
    return score < cutoff if direction is Direction.HIGHER else score > cutoff


def figures_at(labels: Sequence[LabelledScore], cutoff: float, direction: Direction) -> CutoffFigures:
    """Return precision and recall of a cut-off."""
    rejected = [label for label in labels if rejects(cutoff, label.score, direction)]
    hits = sum(label.rejected for label in rejected)
    return _figures(cutoff, hits, len(rejected), sum(label.rejected for label in labels))


def curve(labels: Sequence[LabelledScore], direction: Direction) -> list[CutoffFigures]:
    """Return the figures of every cut-off that tells two labels apart, the one that rejects fewest first.

    Cut-offs lie in the middle between scores that follow each other; the last rejects all. At most `MAX_POINTS`,
    evenly chosen.
    """
    sign = 1 if direction is Direction.HIGHER else -1
    worst_first = sorted(labels, key=lambda label: sign * label.score)
    n_rejected = sum(label.rejected for label in labels)
    points, hits = [], 0
    for index, label in enumerate(worst_first):
        hits += label.rejected
        following = worst_first[index + 1].score if index + 1 < len(worst_first) else None
        if following != label.score:
            cutoff = _beyond(label.score, direction) if following is None else _between(label.score, following)
            points.append(_figures(cutoff, hits, index + 1, n_rejected))
    if len(points) <= MAX_POINTS:
        return points
    last = len(points) - 1
    return [points[round(number * last / (MAX_POINTS - 1))] for number in range(MAX_POINTS)]


def cutoff_for_precision(points: Sequence[CutoffFigures], wanted: float, *, sure: bool = False) -> CutoffFigures | None:
    """Return the point of a curve that rejects most while its precision is at least `wanted` (0-1); None: none is.

    `sure`: the lower bound of its interval is.
    """
    fitting = [
        point
        for point in points
        if point.precision is not None and (point.precision.low if sure else point.precision.value) >= wanted
    ]
    return fitting[-1] if fitting else None


def _figures(cutoff: float, hits: int, n_below: int, n_rejected: int) -> CutoffFigures:
    return CutoffFigures(cutoff=cutoff, precision=_proportion(hits, n_below), recall=_proportion(hits, n_rejected))


def _proportion(hits: int, n: int) -> Proportion | None:
    if n == 0:
        return None
    low, high = wilson(hits, n)
    return Proportion(value=hits / n, low=low, high=high, n=n)


def _between(worse: float, better: float) -> float:
    """Return a cut-off that rejects the worse score alone: their middle, or the better where none lies between."""
    middle = worse + (better - worse) / 2
    return better if middle == worse else middle


def _beyond(score: float, direction: Direction) -> float:
    """Return the nearest cut-off that rejects a score."""
    return math.nextafter(score, math.inf if direction is Direction.HIGHER else -math.inf)
