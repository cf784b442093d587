"""Distributions of scores that were counted in narrow bins: share, mean, quantiles, histogram. Pure.

A value is right to the width of a bin (`BIN_WIDTH`): within a bin, scores count as spread evenly.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from dpiqa.percentiles import ScoreRange
from dpiqa.storage.result_tables import BIN_WIDTH
from dpiqa.storage.rollups import BinCounts


@dataclass(frozen=True, slots=True)
class HistogramBin:
    """Scores from `low` to below `high`."""

    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Scores below which shares of a population lie."""

    p1: float
    p5: float
    p10: float
    p25: float
    p50: float
    p75: float
    p90: float
    p95: float
    p99: float


class Distribution:
    """Numbers of scores by bin."""

    def __init__(self, counts: Iterable[tuple[int, float]]) -> None:
        """Add up `counts`, pairs of bin and number."""
        by_bin: dict[int, float] = {}
        for number, n in counts:
            by_bin[number] = by_bin.get(number, 0) + n
        self.counts = sorted((number, n) for number, n in by_bin.items() if n > 0)
        self._upto = list(accumulate(n for _, n in self.counts))  #: numbers of scores in each bin and those below
        self.total = self._upto[-1] if self._upto else 0

    @property
    def n(self) -> int:
        """The number of scores."""
        return round(self.total)

    @property
    def mean(self) -> float | None:
        """The mean score; None without scores."""
        if not self.total:
            return None
        return sum((number + 0.5) * n for number, n in self.counts) * BIN_WIDTH / self.total

    def find(self, rank: float) -> tuple[int, float, float]:
        """Return the bin that holds the score of a rank (from 1, lowest first), its number, and that of the bins below.

        There must be scores.
        """
        index = min(bisect_left(self._upto, rank), len(self.counts) - 1)
        number, n = self.counts[index]
        return number, n, self._upto[index] - n

    def quantile(self, share: float) -> float | None:
        """Return the score below which a share (0-1) lies; None without scores."""
        if not self.counts:
            return None
        number, n, below = self.find(share * self.total)
        return (number + min(1.0, max(0.0, (share * self.total - below) / n))) * BIN_WIDTH

    def quantiles(self) -> Quantiles | None:
        """Return the usual quantiles; None without scores."""
        if not self.counts:
            return None
        shares = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
        return Quantiles(*(round(self.quantile(share) or 0.0, 4) for share in shares))

    def histogram(self, step: float) -> list[HistogramBin]:
        """Return the numbers of scores in steps of `step`, a multiple of a bin, where there are any."""
        width = max(1, round(step / BIN_WIDTH))
        by_step: dict[int, float] = {}
        for number, n in self.counts:
            by_step[number // width] = by_step.get(number // width, 0) + n
        if not by_step:
            return []
        return [
            HistogramBin(
                round(i * width * BIN_WIDTH, 6), round((i + 1) * width * BIN_WIDTH, 6), round(by_step.get(i, 0))
            )
            for i in range(min(by_step), max(by_step) + 1)
        ]


def between(counts: Iterable[tuple[int, float]], low: float | None, high: float | None) -> list[tuple[int, float]]:
    """Return the counts, pairs of bin and number, of the scores between two scores; None: no bound."""
    if low is None and high is None:
        return list(counts)
    first = -math.inf if low is None else low / BIN_WIDTH
    last = math.inf if high is None else high / BIN_WIDTH
    parts = ((number, n, min(number + 1, last) - max(number, first)) for number, n in counts)
    return [(number, n * part) for number, n, part in parts if part > 0]


def clip(
    counts: BinCounts, low: float | None, high: float | None, within: Sequence[ScoreRange] | None
) -> list[tuple[int, float]]:
    """Return the counts of the scores that lie between two scores and, unless None, in any of the ranges."""
    inside = between(counts.counts, low, high)
    if within is None:
        return inside
    # A set: the ranges of one scorer are its bands, which do not overlap.
    ranges = {(bounds.low, bounds.high) for bounds in within if bounds.scorer_id == counts.scorer_id}
    # The bounds of a range cut the counts of whole bins, in which scores count as spread evenly.
    return [count for bounds in ranges for count in between(inside, *bounds)]


def rank_of(share: float, total: float, *, descending: bool) -> int:
    """Return the rank, from 1 and lowest first, of the score at a share; `descending`: the share begins at the top."""
    steps = max(1, math.ceil(share * total - 1e-9))
    return max(1, round(total) - steps + 1) if descending else steps
