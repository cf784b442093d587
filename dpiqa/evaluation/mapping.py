"""The curve that the field puts between scores and MOS before it computes PLCC and RMSE.

Subjective scales saturate at both ends, scores do not; without a mapping PLCC would punish a model for its scale.
The usual curve is the four-parameter logistic of VQEG (FR-TV Phase II report, 2003; Sheikh et al., IEEE TIP 15(11),
2006): f(s) = (b1 - b2) / (1 + exp(-(s - b3) / |b4|)) + b2.
"""

import warnings
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy.optimize import OptimizeWarning, curve_fit
from scipy.special import expit

_EVALUATIONS = 4000  #: of the curve, before a fit counts as not converging
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


def fit_mapping(scores: np.ndarray, labels: np.ndarray, start: Mapping | None = None) -> Mapping | None:
    """Fit the logistic curve by least squares; both (N,) finite.

    Begins at the field's initial values, b1 = max(labels), b2 = min(labels), b3 = mean(scores) and
    b4 = std(scores) / 4, or at `start`. Falls back to a straight line, and says why, when there are fewer than five
    points or the fit does not converge. None when either side is constant: then no curve is defined.
    """
    if _constant(scores) or _constant(labels):
        return None
    if len(scores) <= _PARAMETERS:
        return _line(scores, labels, f"{len(scores)} points are too few for a logistic fit")
    initial: tuple[float, ...] = (labels.max(), labels.min(), scores.mean(), scores.std() / 4)
    if start is not None and start.curve is Curve.LOGISTIC:
        initial = start.parameters
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OptimizeWarning)  # about the covariance, which is not used
            fitted, _ = curve_fit(logistic, scores, labels, p0=initial, maxfev=_EVALUATIONS)
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
