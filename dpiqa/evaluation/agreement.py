"""Agreement of scores with mean opinion scores, as the field measures it.

An undefined figure (a constant side has no correlation) is NaN, without a warning. Tests compare every figure with
scipy's own to 1e-9; the two correlations that a bootstrap computes thousands of times are written out here.

PLCC and RMSE are also computed after a curve from scores to MOS is fitted, as usual in the field: subjective scales
saturate at both ends, scores do not; without a mapping PLCC would punish a model for its scale. The usual curve is the
four-parameter logistic of VQEG (FR-TV Phase II report, 2003; Sheikh et al., IEEE TIP 15(11), 2006):
f(s) = (b1 - b2) / (1 + exp(-(s - b3) / |b4|)) + b2.
"""

import math
import warnings
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any

import numpy as np
from scipy import stats
from scipy.optimize import OptimizeWarning, curve_fit
from scipy.special import expit

#: Metrics with a bootstrap interval, in the order of reports.
METRICS = ("srcc", "plcc", "plcc_mapped", "krcc", "rmse", "rmse_mapped")
MIN_IMAGES = 2  #: that a correlation needs
_EVALUATIONS = 500  #: of the curve, before a fit counts as not converging; scipy's own bound for a known slope
_EVALUATIONS_FROM_START = 40  #: the same from the fit of nearly the same points; a bootstrap makes thousands
_PARAMETERS = 4


class Curve(StrEnum):
    """Kinds of mapping."""

    LOGISTIC = "logistic"  #: b1 (upper end), b2 (lower end), b3 (centre), b4 (width)
    LINEAR = "linear"  #: slope, offset: the stated fallback


@dataclass(frozen=True, slots=True)
class Mapping:
    """A fitted curve from scores to MOS."""

    curve: Curve
    parameters: tuple[float, ...]
    remark: str = ""  #: why it is not the logistic one; "" if it is

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Map scores (N,) -> (N,) in the units of the labels."""
        if self.curve is Curve.LOGISTIC:
            return logistic(scores, *self.parameters)
        slope, offset = self.parameters
        return slope * scores + offset


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
    if scores.shape != labels.shape or scores.ndim != 1 or len(scores) < MIN_IMAGES:
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


def logistic(scores: np.ndarray, b1: float, b2: float, b3: float, b4: float) -> np.ndarray:
    """Evaluate the four-parameter logistic (see above); `scores` (N,) -> (N,)."""
    width = max(abs(b4), np.finfo(np.float64).tiny)
    with np.errstate(over="ignore"):  # a step: expit of +-infinity is 0 or 1, as it should be
        values: np.ndarray = (b1 - b2) * expit((scores - b3) / width) + b2
    return values


def _slopes(scores: np.ndarray, b1: float, b2: float, b3: float, b4: float) -> np.ndarray:
    """Return the derivatives of `logistic` by its four parameters, (N, 4)."""
    width = max(abs(b4), np.finfo(np.float64).tiny)
    with np.errstate(over="ignore", invalid="ignore"):
        steps = (scores - b3) / width
        share = expit(steps)
        bend = (b1 - b2) * share * (1 - share)
        columns = [share, 1 - share, -bend / width, -bend * steps / width * math.copysign(1, b4)]
    slopes: np.ndarray = np.nan_to_num(np.stack(columns, axis=1), posinf=0.0, neginf=0.0)
    return slopes


def fit_mapping(scores: np.ndarray, labels: np.ndarray, start: Mapping | None = None) -> Mapping | None:
    """Fit the logistic curve by least squares; both (N,) finite.

    Begins at the field's initial values, b1 = max(labels), b2 = min(labels), b3 = mean(scores) and
    b4 = std(scores) / 4, or at `start`, the mapping of nearly the same points: then a line stays a line. Falls back to
    a straight line, and says why, when there are fewer than five points or the fit does not converge (points on a
    line: their curve is infinitely wide). None when either side is constant: then no curve is defined.
    """
    if _constant(scores) or _constant(labels):
        return None
    if len(scores) <= _PARAMETERS:
        return _line(scores, labels, f"{len(scores)} points are too few for a logistic fit")
    if start is not None and start.curve is Curve.LINEAR:
        return _line(scores, labels, "the logistic fit of all points did not converge")
    initial = start.parameters if start else (labels.max(), labels.min(), scores.mean(), scores.std() / 4)
    evaluations = _EVALUATIONS_FROM_START if start else _EVALUATIONS
    try:
        # The silenced warnings are about the covariance, which is not used.
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore", OptimizeWarning)
            fitted, _ = curve_fit(logistic, scores, labels, p0=initial, jac=_slopes, maxfev=evaluations)
    except RuntimeError:
        return _line(scores, labels, "the logistic fit did not converge")
    if not np.isfinite(fitted).all() or _constant(logistic(scores, *fitted)):
        return _line(scores, labels, "the logistic fit degenerated")
    return Mapping(Curve.LOGISTIC, tuple(float(value) for value in fitted))


def _line(scores: np.ndarray, labels: np.ndarray, remark: str) -> Mapping:
    slope, offset = np.polyfit(scores, labels, 1)
    return Mapping(Curve.LINEAR, (float(slope), float(offset)), f"{remark}: a straight line instead")


def _constant(values: np.ndarray) -> bool:
    return float(np.ptp(values)) == 0.0
