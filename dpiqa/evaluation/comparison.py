"""Several models on the same images: paired differences from the first, the spread of runs by seed, and its report."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpiqa.evaluation.agreement import plcc, rmse, srcc
from dpiqa.evaluation.intervals import DRAWS, Estimate, bootstrap
from dpiqa.evaluation.paired import Disagreement, PairedScores, disagreement
from dpiqa.text import markdown_table

METRICS = {"srcc": srcc, "plcc": plcc, "rmse": rmse}  #: what models are compared by, see `dpiqa.evaluation.agreement`
POOLED = "all"  #: name of all images together, beside those of the subsets

COLUMNS = ("part", "n", "model", "SRCC [95 %]", "PLCC [95 %]", "RMSE [95 %]", "SRCC minus first", "RMSE minus first")
SPREAD_COLUMNS = ("part", "n", *(f"{metric.upper()}: mean +- deviation (range)" for metric in METRICS))
PAIR_COLUMNS = ("model", "SRCC with first", "mean absolute difference", "95 % within", "largest in subset", "in range")


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
        return f"{self.mean:.3f} +- {self.deviation:.3f} ({self.lowest:.3f} to {self.highest:.3f})"


@dataclass(frozen=True, slots=True, kw_only=True)
class SubsetComparison:
    """All models on one subset, or on all images. Figures: model -> metric -> estimate."""

    n: int
    figures: dict[str, dict[str, Estimate]]
    differences: dict[str, dict[str, Estimate]]  #: model minus the first, for all but the first

    def spread(self, metric: str) -> Spread:
        """Return mean and spread of a metric over the models, of which there are two or more."""
        values = [estimates[metric].value for estimates in self.figures.values()]
        return Spread(float(np.mean(values)), float(np.std(values, ddof=1)), float(min(values)), float(max(values)))

    def as_dict(self) -> dict[str, Any]:
        """Return it for a card or a report."""
        return {
            "n": self.n,
            "figures": {name: _as_dicts(estimates) for name, estimates in self.figures.items()},
            "differences": {name: _as_dicts(estimates) for name, estimates in self.differences.items()},
            "spread": {metric: self.spread(metric).as_dict() for metric in METRICS},
        }


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two or more models against people and against the first of them."""

    paired: PairedScores
    parts: dict[str, SubsetComparison]  #: `POOLED` first, then by subset
    disagreements: dict[str, Disagreement]  #: of every other model with the first

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the single scores, for a report."""
        return {
            "models": dict(zip(self.paired.names, self.paired.scorers, strict=True)),
            "failures": len(self.paired.failures),
            "parts": {name: part.as_dict() for name, part in self.parts.items()},
            "disagreements": {name: pair.as_dict() for name, pair in self.disagreements.items()},
        }


def compare(paired: PairedScores, *, draws: int = DRAWS, seed: int = 0) -> Comparison:
    """Compare two or more models with people and with the first of them, pooled and by subset.

    The pooled figure alone would hide that a model tells subsets apart rather than images.
    """
    first, subsets = paired.scores[0], {POOLED: paired, **paired.by_subset()}
    return Comparison(
        paired=paired,
        parts={name: _compare_subset(images, draws, seed) for name, images in subsets.items()},
        disagreements={
            name: disagreement(first, scores, paired.subsets, draws=draws, seed=seed)
            for name, scores in list(zip(paired.names, paired.scores, strict=True))[1:]
        },
    )


def _compare_subset(paired: PairedScores, draws: int, seed: int) -> SubsetComparison:
    values = _figures(paired)
    intervals = bootstrap(lambda rows: _figures(paired.only(rows)), len(paired.labels), draws=draws, seed=seed)
    estimates = {name: Estimate(value, intervals.get(name)) for name, value in values.items()}
    first, *others = paired.names
    return SubsetComparison(
        n=len(paired.labels),
        figures={name: {metric: estimates[f"{metric} {name}"] for metric in METRICS} for name in (first, *others)},
        differences={name: {metric: estimates[f"{metric} {name} -"] for metric in METRICS} for name in others},
    )


def _figures(paired: PairedScores) -> dict[str, float]:
    """All figures of one sample, flat: `srcc NAME`, and `srcc NAME -` for the difference from the first."""
    figures: dict[str, float] = {}
    for metric, measure in METRICS.items():
        values = [measure(scores, paired.labels) for scores in paired.scores]
        for name, value in zip(paired.names, values, strict=True):
            figures |= {f"{metric} {name}": value, f"{metric} {name} -": value - values[0]}
    return figures


def _as_dicts(estimates: dict[str, Estimate]) -> dict[str, Any]:
    return {metric: estimate.as_dict() for metric, estimate in estimates.items()}


def report(comparison: Comparison, data: str) -> dict[str, Any]:
    """Return the whole comparison for JSON. `data`: name and split of the data set."""
    return {"data": data, "first": comparison.paired.names[0], **comparison.as_dict()}


def rows(comparison: Comparison) -> list[list[Any]]:
    """One row per part of the data set and model, in the order of `COLUMNS`."""
    return [
        [
            name,
            part.n,
            model,
            *(str(figures[metric]) for metric in METRICS),
            *(str(part.differences[model][m]) if model in part.differences else "" for m in ("srcc", "rmse")),
        ]
        for name, part in comparison.parts.items()
        for model, figures in part.figures.items()
    ]


def spread_rows(comparison: Comparison) -> list[list[Any]]:
    """One row per part of the data set, in the order of `SPREAD_COLUMNS`: mean, deviation and range over the models."""
    return [[name, part.n, *(str(part.spread(m)) for m in METRICS)] for name, part in comparison.parts.items()]


def pair_rows(comparison: Comparison) -> list[list[Any]]:
    """One row per other model, in the order of `PAIR_COLUMNS`: how far its scores are from the first's."""
    return [
        [
            name,
            str(pair.srcc),
            f"{pair.whole.mean_absolute:.3f}",
            f"{pair.p95_absolute:.3f}",
            *(pair.largest[kind].name if kind in pair.largest else "" for kind in ("subset", "range")),
        ]
        for name, pair in comparison.disagreements.items()
    ]


def markdown(comparison: Comparison, data: str, *, seeds: bool) -> str:
    """Write the comparison as a Markdown page. `seeds`: the models are runs of one recipe, and have a mean."""
    remark = (
        f"First: {comparison.paired.names[0]}. Brackets: 95 % bootstrap interval over images; differences are paired, "
        "each draw's images the same for all models. Deviation: of the sample, n - 1."
    )
    title = f"# {', '.join(comparison.paired.names)} on {data}"
    sections = [title, markdown_table(COLUMNS, rows(comparison)), remark]
    if seeds:
        sections += ["## Over the runs", markdown_table(SPREAD_COLUMNS, spread_rows(comparison))]
    sections += ["## Scores against the first's", markdown_table(PAIR_COLUMNS, pair_rows(comparison))]
    return "\n\n".join(sections) + "\n"


def card_sections(comparison: Comparison, data: str, *, seeds: bool) -> dict[str, dict[str, Any]]:
    """Return sections for the card of the first model, by name.

    For runs with different `seeds` their spread as one section; else one section for every other model, whose
    differences are the other model minus this one, paired.
    """
    paired, parts = comparison.paired, comparison.parts
    if seeds:
        runs = {"runs": dict(zip(paired.names, paired.scorers, strict=True)), "failures": len(paired.failures)}
        return {f"seeds on {data}": runs | {"parts": {name: part.as_dict() for name, part in parts.items()}}}
    return {
        f"against {other} on {data}": {
            "failures": len(paired.failures),
            "differences_of_other": {
                name: {"n": part.n} | _as_dicts(part.differences[other]) for name, part in parts.items()
            },
            "other_against_this": pair.as_dict(),
        }
        for other, pair in comparison.disagreements.items()
    }
