"""Plots of what several models do: routing, and models side by side."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dpiqa.evaluation.comparison import Comparison
from dpiqa.evaluation.disagreement import Disagreement
from dpiqa.evaluation.intervals import Estimate
from dpiqa.evaluation.plots import BLUE, GREY, ORANGE, new_figure
from dpiqa.evaluation.routing_trial import STRATEGIES, Trial


def routing(trial: Trial, data: str) -> Figure:
    """Draw agreement by who decides, the gains of routing, and where student and teacher differ."""
    figure = new_figure(11, 4.2)
    left, middle, right = figure.subplots(1, 3)
    _estimates(left, STRATEGIES, [trial.agreement[name] for name in STRATEGIES])
    left.set_title("agreement with people", fontsize=9)
    left.invert_yaxis()
    _estimates(middle, [f"over {name}" for name in trial.gains], list(trial.gains.values()))
    middle.invert_yaxis()
    middle.axvline(0, color=GREY, linewidth=1, linestyle=":")
    middle.set_title("routed minus the others (paired)", fontsize=9)
    _differences(right, trial.disagreement)
    figure.suptitle(f"{trial.profile.id} on {data}: {trial.n} images, {trial.share.value:.1%} escalated", fontsize=10)
    return figure


def comparison(found: Comparison, data: str) -> Figure:
    """Draw every model's SRCC, pooled and by subset, with intervals."""
    models = found.joint.names
    figure = new_figure(max(4.0, 2.6 * len(found.parts)), 1.6 + 0.35 * len(models))
    grid = np.atleast_1d(figure.subplots(1, len(found.parts), sharey=True))
    for axes, (name, part) in zip(grid, found.parts.items(), strict=True):
        _estimates(axes, models, [part.figures[model]["srcc"] for model in models])
        axes.set_title(f"{name}, n={part.n}", fontsize=9)
    grid[0].invert_yaxis()
    figure.suptitle(f"SRCC on {data}, 95 % intervals", fontsize=10)
    return figure


def _estimates(axes: Axes, names: Sequence[str], estimates: Sequence[Estimate]) -> None:
    """Points with their intervals, one below the other."""
    for place, one in enumerate(estimates):
        if one.interval:
            axes.plot(one.interval, [place, place], color=BLUE, linewidth=1.6)
        axes.plot([one.value], [place], marker="o", color=BLUE)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.grid(axis="x", alpha=0.25)
    axes.tick_params(labelsize=8)


def _differences(axes: Axes, found: Disagreement) -> None:
    parts = (*found.by_subset, *found.by_range)
    colours = [BLUE] * len(found.by_subset) + [ORANGE] * len(found.by_range)
    axes.barh(range(len(parts)), [part.mean_absolute for part in parts], color=colours, alpha=0.7)
    axes.set_yticks(range(len(parts)), [part.name for part in parts], fontsize=8)
    axes.set_title("|teacher - student| by subset and student's score", fontsize=8)
    axes.invert_yaxis()
    axes.tick_params(labelsize=8)
