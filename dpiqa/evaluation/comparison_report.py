"""A comparison of models as people and programs read it. Pure."""

from typing import Any

from dpiqa.evaluation.comparison import COMPARED, Comparison
from dpiqa.evaluation.report import table

COLUMNS = ("part", "n", "model", "SRCC [95 %]", "PLCC [95 %]", "RMSE [95 %]", "SRCC minus first", "RMSE minus first")
SPREAD_COLUMNS = ("part", "n", *(f"{metric.upper()}: mean ± deviation (range)" for metric in COMPARED))
PAIR_COLUMNS = ("model", "SRCC with first", "mean absolute difference", "95 % within", "largest in subset", "in range")


def as_dict(found: Comparison, data: str) -> dict[str, Any]:
    """Return the whole comparison for JSON."""
    return {"data": data, "first": found.joint.names[0], **found.as_dict()}


def rows(found: Comparison) -> list[list[Any]]:
    """One row per part of the data set and model."""
    return [
        [
            name,
            part.n,
            model,
            *(str(figures[metric]) for metric in COMPARED),
            *(str(part.differences[model][m]) if model in part.differences else "" for m in ("srcc", "rmse")),
        ]
        for name, part in found.parts.items()
        for model, figures in part.figures.items()
    ]


def spread_rows(found: Comparison) -> list[list[Any]]:
    """One row per part of the data set: mean, standard deviation and range over the models."""
    return [[name, part.n, *(str(part.spread(m)) for m in COMPARED)] for name, part in found.parts.items()]


def pair_rows(found: Comparison) -> list[list[Any]]:
    """One row per other model: how far its scores are from the first's."""
    return [
        [
            name,
            str(one.srcc),
            f"{one.whole.mean_absolute:.3f}",
            f"{one.p95_absolute:.3f}",
            *(one.largest[kind].name if kind in one.largest else "" for kind in ("subset", "range")),
        ]
        for name, one in found.disagreements.items()
    ]


def markdown(found: Comparison, data: str, *, seeds: bool) -> str:
    """Write the comparison as a Markdown page. `seeds`: the models are runs of one recipe, and have a mean."""
    remark = (
        f"First: {found.joint.names[0]}. Brackets: 95 % bootstrap interval over images; differences are paired, each "
        "draw's images the same for all models. Deviation: of the sample, n - 1."
    )
    parts = [f"# {', '.join(found.joint.names)} on {data}", table(COLUMNS, rows(found)), remark]
    if seeds:
        parts += ["## Over the runs", table(SPREAD_COLUMNS, spread_rows(found))]
    parts += ["## Scores against the first's", table(PAIR_COLUMNS, pair_rows(found))]
    return "\n\n".join(parts) + "\n"
