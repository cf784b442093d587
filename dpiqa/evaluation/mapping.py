"""The curve from scores to MOS that is fitted before PLCC and RMSE are computed, as usual in the field.

Subjective scales saturate at both ends, scores do not; without a mapping PLCC would punish a model for its scale.
The usual curve is the four-parameter logistic of VQEG (FR-TV Phase II report, 2003; Sheikh et al., IEEE TIP 15(11),
2006): f(s) = (b1 - b2) / (1 + exp(-(s - b3) / |b4|)) + b2.
"""

import math
import warnings
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy.optimize import OptimizeWarning, curve_fit
from scipy.special import expit

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


def logistic(scores: np.ndarray, b1: float, b2: float, b3: float, b4: float) -> np.ndarray:
    """Evaluate the four-parameter logistic (see the module); `scores` (N,) -> (N,)."""
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
