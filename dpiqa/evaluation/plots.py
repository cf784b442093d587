"""Figures of an evaluation, drawn off screen and put in place only when complete."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dpiqa.errors import InvalidRequest
from dpiqa.evaluation.evaluate import Evaluation
from dpiqa.evaluation.mapping import Curve
from dpiqa.evaluation.monotone import Course
from dpiqa.evaluation.protocol import Measured
from dpiqa.evaluation.sweep import Sweep
from dpiqa.files import replace_file
from dpiqa.models.base import ModelCard

# Okabe and Ito's colours: told apart by colour-blind readers.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"
_DPI = 150
_COLUMNS = 6  #: small figures in a row


def new_figure(width: float, height: float) -> Figure:
    """Make a figure of so many inches that no window system is asked for."""
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def write_png(figure: Figure, path: Path) -> Path:
    """Write the figure; a reader never sees half of it. Raises `InvalidRequest` when the place cannot be written."""
    try:
        return replace_file(path, lambda partial: figure.savefig(partial, format="png"))
    except OSError as error:
        raise InvalidRequest(f"cannot write {path}: {error.strerror}", hint="choose another --output") from error


def predicted_against_mos(card: ModelCard, one: Measured) -> Figure:
    """Draw every image's score against its MOS, with the fitted curve and the line where both are equal."""
    figure = new_figure(6, 5.4)
    axes: Axes = figure.subplots()
    found = one.evaluation
    size = 10 if len(found.scores) > 200 else 24
    for (name, keep), colour in zip(_groups(found).items(), _colours(), strict=False):
        axes.scatter(found.scores[keep], found.labels[keep], s=size, alpha=0.5, color=colour, linewidths=0, label=name)
    low = float(min(found.scores.min(), found.labels.min()))
    high = float(max(found.scores.max(), found.labels.max()))
    axes.plot([low, high], [low, high], color=GREY, linewidth=1, linestyle=":", label="score = MOS")
    if found.overall.mapping:
        line = np.linspace(found.scores.min(), found.scores.max(), 200)
        curve = {Curve.LOGISTIC: "fitted logistic", Curve.LINEAR: "fitted line"}[found.overall.mapping.curve]
        axes.plot(line, found.overall.mapping(line), color="black", linewidth=1.6, label=curve)
    axes.set_xlabel("score (MOS/100)")
    axes.set_ylabel("MOS/100")
    figures = f"SRCC {one.headline('srcc'):.3f}, PLCC after mapping {one.headline('plcc_mapped'):.3f}"
    axes.set_title(f"{card.name} on {one.dataset} {one.split}: {found.overall.n} images\n{figures}", fontsize=10)
    axes.legend(fontsize=8, loc="best")
    axes.grid(alpha=0.25)
    return figure


def error_by_subset(card: ModelCard, one: Measured) -> Figure:
    """Draw how far scores lie from MOS in each subset: the middle half, the median and the whiskers of a box plot."""
    found = one.evaluation
    groups = {name: keep for name, keep in _groups(found).items() if keep.any()}
    figure = new_figure(max(4.0, 1.4 + 0.75 * len(groups)), 4.6)
    axes: Axes = figure.subplots()
    errors = found.scores - found.labels
    axes.axhline(0, color=GREY, linewidth=1, linestyle=":")
    drawn = axes.boxplot([errors[keep] for keep in groups.values()], widths=0.6, patch_artist=True, showmeans=True)
    for box in drawn["boxes"]:
        box.set(facecolor=BLUE, alpha=0.35)
    for median in drawn["medians"]:
        median.set(color="black")
    labels = [f"{name}\nn={int(keep.sum())}" for name, keep in groups.items()]
    axes.set_xticks(range(1, len(groups) + 1), labels, rotation=0 if len(groups) <= 6 else 60, fontsize=8)
    axes.set_ylabel("score - MOS (MOS/100); above 0: too kind")
    axes.set_title(f"{card.name} on {one.dataset} {one.split}: error by subset", fontsize=10)
    axes.grid(axis="y", alpha=0.25)
    return figure


def score_against_strength(card: ModelCard, sweep: Sweep) -> Figure:
    """Draw one small figure per kind: mean score against strength, one standard deviation of the pictures about it."""
    columns = min(_COLUMNS, len(sweep.kinds))
    lines = math.ceil(len(sweep.kinds) / columns)
    figure = new_figure(max(2.1 * columns, 4.2), 1.75 * lines + 0.9)
    grid = np.atleast_1d(figure.subplots(lines, columns, sharex=True, sharey=True)).ravel()
    deviations = dict(zip(sweep.kinds, sweep.scores.std(axis=0), strict=True))
    for axes, (kind, course) in zip(grid, sweep.courses.items(), strict=False):
        _strengths(axes, kind, sweep.means[kind], deviations[kind], course)
    for axes in grid[len(sweep.kinds) :]:
        axes.set_visible(False)
    falling = sum(course.falls for course in sweep.courses.values())
    figure.suptitle(
        f"{card.name}: mean score of {len(sweep.scores)} pictures against strength (0: original); "
        f"falls for {falling} of {len(sweep.kinds)} kinds",
        fontsize=10,
    )
    figure.supylabel("score (MOS/100)", fontsize=9)
    return figure


def _strengths(axes: Axes, kind: str, means: np.ndarray, deviations: np.ndarray, course: Course) -> None:
    strengths = np.arange(len(means))
    colour = BLUE if course.falls else ORANGE
    axes.fill_between(strengths, means - deviations, means + deviations, color=colour, alpha=0.15, linewidth=0)
    axes.plot(strengths, means, color=colour, linewidth=1.4, marker="o", markersize=2.5)
    rises = list(course.rises)
    axes.plot(rises, means[rises], linestyle="", marker="^", markersize=6, color=ORANGE)
    axes.set_title(kind.replace("_", " "), fontsize=8, color="black" if course.falls else ORANGE)
    axes.set_xticks(strengths)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.25)


def _groups(found: Evaluation) -> dict[str, np.ndarray]:
    """Which scores belong to which subset, (n,) bool by name; one group where the set has no subsets."""
    names = np.array([image.subset or "images" for image in found.images])
    return {str(name): names == name for name in np.unique(names)}


def _colours() -> Sequence[str]:
    return (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", *([GREY] * 100))
