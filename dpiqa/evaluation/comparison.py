"""Several models on the same images: paired differences from the first, and the spread of runs by seed. Pure."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpiqa.evaluation.correlation import plcc, rmse, srcc
from dpiqa.evaluation.disagreement import Disagreement, disagreement
from dpiqa.evaluation.intervals import DRAWS, Estimate, bootstrap
from dpiqa.evaluation.joint import Joint

COMPARED = {"srcc": srcc, "plcc": plcc, "rmse": rmse}  #: metrics, see `dpiqa.evaluation.correlation`
POOLED = "all"  #: what stands for the name of a subset


@dataclass(frozen=True, slots=True)
class Spread:
    """One figure over several models."""

    mean: float
    deviation: float  #: sample standard deviation (n - 1)
    lowest: float
    highest: float

    def as_dict(self) -> dict[str, float | None]:
        """Return it for a card or a report, four places; None where not defined."""
        values = {name: getattr(self, name) for name in ("mean", "deviation", "lowest", "highest")}
        return {name: round(value, 4) if math.isfinite(value) else None for name, value in values.items()}

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.deviation:.3f} ({self.lowest:.3f} to {self.highest:.3f})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """All models on one part of the data set. Figures: model -> metric -> estimate."""

    n: int
    figures: dict[str, dict[str, Estimate]]
    differences: dict[str, dict[str, Estimate]]  #: model minus the first, for all but the first

    def spread(self, metric: str) -> Spread:
        """Return mean and spread of a metric over the models, of which there are two or more."""
        values = [one[metric].value for one in self.figures.values()]
        return Spread(float(np.mean(values)), float(np.std(values, ddof=1)), float(min(values)), float(max(values)))

    def as_dict(self) -> dict[str, Any]:
        """Return it for a card or a report."""
        return {
            "n": self.n,
            "figures": _plain(self.figures),
            "differences": _plain(self.differences),
            "spread": {metric: self.spread(metric).as_dict() for metric in COMPARED},
        }


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What came out."""

    joint: Joint
    parts: dict[str, Compared]  #: `POOLED` first, then by subset
    disagreements: dict[str, Disagreement]  #: of every other model with the first

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the single scores, for a report."""
        return {
            "models": dict(zip(self.joint.names, self.joint.scorers, strict=True)),
            "failures": len(self.joint.failures),
            "parts": {name: part.as_dict() for name, part in self.parts.items()},
            "disagreements": {name: one.as_dict() for name, one in self.disagreements.items()},
        }


def compare(joint: Joint, *, draws: int = DRAWS, seed: int = 0) -> Comparison:
    """Compare two or more models with people and with the first of them, pooled and by subset.

    The pooled figure alone would hide that a model tells subsets apart rather than images.
    """
    first = joint.scores[0]
    return Comparison(
        joint=joint,
        parts={name: _compare(part, draws, seed) for name, part in ({POOLED: joint} | joint.parts()).items()},
        disagreements={
            name: disagreement(first, scores, joint.subsets, draws=draws, seed=seed)
            for name, scores in list(zip(joint.names, joint.scores, strict=True))[1:]
        },
    )


def _compare(part: Joint, draws: int, seed: int) -> Compared:
    values = _figures(part)
    drawn = bootstrap(lambda rows: _figures(part.only(rows)), len(part.labels), draws=draws, seed=seed)
    found = {name: Estimate(value, drawn.get(name)) for name, value in values.items()}
    first, *others = part.names
    return Compared(
        n=len(part.labels),
        figures={name: {metric: found[f"{metric} {name}"] for metric in COMPARED} for name in (first, *others)},
        differences={name: {metric: found[f"{metric} {name} -"] for metric in COMPARED} for name in others},
    )


def _figures(part: Joint) -> dict[str, float]:
    """All figures of one sample, flat: `srcc NAME`, and `srcc NAME -` for the difference from the first."""
    found: dict[str, float] = {}
    for metric, measure in COMPARED.items():
        values = [measure(scores, part.labels) for scores in part.scores]
        for name, value in zip(part.names, values, strict=True):
            found |= {f"{metric} {name}": value, f"{metric} {name} -": value - values[0]}
    return found


def _plain(figures: dict[str, dict[str, Estimate]]) -> dict[str, dict[str, Any]]:
    return {name: {metric: one.as_dict() for metric, one in found.items()} for name, found in figures.items()}
