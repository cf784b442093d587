"""Confidence intervals of figures: percentile bootstrap over images, seeded."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpiqa.evaluation.agreement import METRICS, agreement, srcc

#: Lower and upper bound; None where the figure is not defined in more than half of the draws.
Interval = tuple[float, float] | None
DRAWS, LEVEL = 1000, 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its interval. `value` NaN: not defined."""

    value: float
    interval: Interval

    def as_dict(self) -> dict[str, Any]:
        """Return both for a card or a report, four places."""
        return {"value": round(self.value, 4) if math.isfinite(self.value) else None, "95": rounded(self.interval)}

    def __str__(self) -> str:
        if not math.isfinite(self.value):
            return "-"
        bounds = f" [{self.interval[0]:.3f}, {self.interval[1]:.3f}]" if self.interval else ""
        return f"{self.value:.3f}{bounds}"


def intervals(
    scores: np.ndarray, labels: np.ndarray, *, draws: int = DRAWS, level: float = LEVEL, seed: int = 0
) -> dict[str, Interval]:
    """Return the interval of every metric; `scores` and `labels` (N,), N >= 2.

    Images are drawn with replacement; the curve is fitted to each draw. Draws in which a figure is not defined
    (all labels equal) do not count.
    """
    whole = agreement(scores, labels)
    drawn = [agreement(*sample, start=whole.mapping) for sample in _draw(scores, labels, draws, seed)]
    values = {metric: np.array([getattr(figures, metric) for figures in drawn] or [math.nan]) for metric in METRICS}
    return {metric: percentile_interval(values[metric], level) for metric in METRICS}


def srcc_interval(
    scores: np.ndarray, labels: np.ndarray, *, draws: int = DRAWS, level: float = LEVEL, seed: int = 0
) -> Interval:
    """Return the interval of the SRCC alone, of the same draws as `intervals`."""
    return percentile_interval(np.array([srcc(*sample) for sample in _draw(scores, labels, draws, seed)]), level)


def bootstrap(
    figures: Callable[[np.ndarray], Mapping[str, float]], n: int, *, draws: int = DRAWS, seed: int = 0
) -> dict[str, Interval]:
    """Return the 95 % interval of every figure of `n` images, by name.

    `figures` takes the drawn images' rows, (n,) int, and computes all figures from the same draw: differences of two
    models among them are paired, and say more than two intervals that overlap.
    """
    rng = np.random.default_rng(seed)
    drawn = [figures(rng.integers(0, n, n)) for _ in range(draws)]
    names = drawn[0] if drawn else {}
    return {name: percentile_interval(np.array([sample[name] for sample in drawn]), LEVEL) for name in names}


def percentile_interval(values: np.ndarray, level: float) -> Interval:
    """Central interval of drawn figures (D,), which are NaN where not defined; None if most of them are."""
    defined = values[np.isfinite(values)]
    if 2 * len(defined) <= len(values):
        return None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def rounded(interval: Interval) -> list[float] | None:
    """Return the interval as JSON shows it: four places."""
    return [round(bound, 4) for bound in interval] if interval else None


def _draw(scores: np.ndarray, labels: np.ndarray, draws: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        sample = rng.integers(0, len(scores), len(scores))
        yield scores[sample], labels[sample]
