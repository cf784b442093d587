"""Agreement of scores with mean opinion scores, as the field measures it.

An undefined figure (a constant side has no correlation) is NaN, without a warning. Tests compare every figure with
scipy's own to 1e-9; the two correlations that a bootstrap computes thousands of times are written out here.
"""

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from scipy import stats

from dpiqa.evaluation.mapping import Mapping, fit_mapping

#: Metrics with a bootstrap interval, in the order of reports.
METRICS = ("srcc", "plcc", "plcc_mapped", "krcc", "rmse", "rmse_mapped")


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Figures over one set of images. Higher is better but for the errors. NaN: not defined."""

    n: int
    srcc: float  #: Spearman's rank correlation, ties at their mean rank
    plcc: float  #: Pearson's correlation of the raw scores
    krcc: float  #: Kendall's tau-b
    rmse: float  #: root mean squared error of the raw scores, in units of the labels
    plcc_mapped: float  #: Pearson's correlation after `mapping`
    rmse_mapped: float  #: root mean squared error after `mapping`
    mapping: Mapping | None  #: scores -> MOS; None where it is not defined

    def as_dict(self) -> dict[str, Any]:
        """Return the figures rounded to four places, None where not defined, for a card or a report."""
        figures = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "mapping"}
        rounded = {name: round(value, 4) if math.isfinite(value) else None for name, value in figures.items()}
        return {**rounded, "mapping": asdict(self.mapping) if self.mapping else None}


def agreement(scores: np.ndarray, labels: np.ndarray, *, start: Mapping | None = None) -> Agreement:
    """Compare `scores` with `labels`, both (N,), N >= 2; `start`: where the curve's fit begins (see `fit_mapping`).

    Raises `ValueError` if they differ in length or hold a NaN.
    """
    scores, labels = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if scores.shape != labels.shape or scores.ndim != 1 or len(scores) < 2:
        raise ValueError(f"expected two vectors of one length >= 2, got {scores.shape} and {labels.shape}")
    if not (np.isfinite(scores).all() and np.isfinite(labels).all()):
        raise ValueError("scores and labels must be finite")
    mapping = fit_mapping(scores, labels, start)
    mapped = mapping(scores) if mapping else None
    return Agreement(
        n=len(scores),
        srcc=srcc(scores, labels),
        plcc=plcc(scores, labels),
        krcc=krcc(scores, labels),
        rmse=rmse(scores, labels),
        plcc_mapped=math.nan if mapped is None else plcc(mapped, labels),
        rmse_mapped=math.nan if mapped is None else rmse(mapped, labels),
        mapping=mapping,
    )


def srcc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Spearman's rank correlation; NaN if either side is constant."""
    return plcc(stats.rankdata(scores), stats.rankdata(labels))


def plcc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Pearson's correlation; NaN if either side is constant, or so nearly that it would be rounding error."""
    from_mean = [side - side.mean() for side in (scores, labels)]
    lengths = [float(np.linalg.norm(side)) for side in from_mean]
    if any(length <= 1e-13 * abs(side.mean()) for length, side in zip(lengths, (scores, labels), strict=True)):
        return math.nan
    return float(np.clip(np.dot(from_mean[0] / lengths[0], from_mean[1] / lengths[1]), -1, 1))


def krcc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Kendall's tau-b; NaN if either side is constant."""
    if np.ptp(scores) == 0 or np.ptp(labels) == 0:
        return math.nan
    return float(stats.kendalltau(scores, labels).statistic)


def rmse(scores: np.ndarray, labels: np.ndarray) -> float:
    """Root mean squared error, in units of the labels."""
    return float(np.sqrt(np.mean((scores - labels) ** 2)))
