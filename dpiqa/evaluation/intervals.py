"""How far a figure would move with other images: percentile bootstrap over images, seeded."""

import math
from collections.abc import Iterator

import numpy as np

from dpiqa.evaluation.correlation import METRICS, Agreement, agreement, srcc

#: Lower and upper bound; None where the figure is not defined in more than half of the draws.
Interval = tuple[float, float] | None
DRAWS, LEVEL = 1000, 0.95


def intervals(
    scores: np.ndarray, labels: np.ndarray, *, draws: int = DRAWS, level: float = LEVEL, seed: int = 0
) -> dict[str, Interval]:
    """Return the interval of every metric; `scores` and `labels` (N,), N >= 2.

    Images are drawn with replacement, the curve is fitted anew to each draw. Draws in which a figure is not defined
    (all labels equal) do not count.
    """
    whole = agreement(scores, labels)
    drawn = [agreement(*one, start=whole.mapping) for one in _draw(scores, labels, draws, seed)]
    return {metric: percentile_interval(_values(drawn, metric), level) for metric in METRICS}


def srcc_interval(
    scores: np.ndarray, labels: np.ndarray, *, draws: int = DRAWS, level: float = LEVEL, seed: int = 0
) -> Interval:
    """Return the interval of the SRCC alone, of the same draws as `intervals`."""
    return percentile_interval(np.array([srcc(*one) for one in _draw(scores, labels, draws, seed)]), level)


def percentile_interval(values: np.ndarray, level: float) -> Interval:
    """Central interval of drawn figures (D,), NaN where one is not defined."""
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


def _values(drawn: list[Agreement], metric: str) -> np.ndarray:
    return np.array([getattr(one, metric) for one in drawn] or [math.nan])
