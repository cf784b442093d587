"""Plots of evaluations and saliency maps, drawn off screen. Needs matplotlib."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from PIL import Image

from dpiqa.errors import InvalidRequest
from dpiqa.evaluation.agreement import Curve
from dpiqa.evaluation.comparison import Comparison
from dpiqa.evaluation.intervals import Estimate
from dpiqa.evaluation.measurement import Evaluation, Measurement
from dpiqa.evaluation.paired import Disagreement
from dpiqa.evaluation.routing_trial import STRATEGIES, RoutingTrial
from dpiqa.evaluation.saliency import Saliency
from dpiqa.evaluation.sweep import Sweep, Trend
from dpiqa.files import replace_file
from dpiqa.models.base import ModelCard

# Okabe and Ito's colours, which colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"
_GROUP_COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", *([GREY] * 100))
_DPI = 150
_COLUMNS = 6  #: small figures in a row

_SALIENCY_PIXELS = 1200  #: of the picture's longer side
_SALIENCY_INCHES = 7.0  #: of the picture's longer side
_SALIENCY_LEAST = 0.02  #: MOS/100 at the ends of the colour bar at least: smaller effects must not look large
_SALIENCY_OPACITY = 0.6  #: how much of the picture the strongest effect covers; no effect covers nothing
_SALIENCY_COLOURS = "RdBu"


def new_figure(width: float, height: float) -> Figure:
    """Make a figure of so many inches without a window system."""
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def write_png(figure: Figure, path: Path) -> Path:
    """Write the figure; a reader never sees half of it. Raises `InvalidRequest` when the file cannot be written."""
    try:
        return replace_file(path, lambda partial: figure.savefig(partial, format="png"))
    except OSError as error:
        raise InvalidRequest(f"cannot write {path}: {error.strerror}", hint="choose another --output") from error


def predicted_against_mos(card: ModelCard, measurement: Measurement) -> Figure:
    """Draw every image's score against its MOS, with the fitted curve and the line where both are equal."""
    figure = new_figure(6, 5.4)
    axes: Axes = figure.subplots()
    evaluation = measurement.evaluation
    scores, labels = evaluation.scores, evaluation.labels
    size = 10 if len(scores) > 200 else 24
    for (name, keep), colour in zip(_groups(evaluation).items(), _GROUP_COLOURS, strict=False):
        axes.scatter(scores[keep], labels[keep], s=size, alpha=0.5, color=colour, linewidths=0, label=name)
    low = float(min(scores.min(), labels.min()))
    high = float(max(scores.max(), labels.max()))
    axes.plot([low, high], [low, high], color=GREY, linewidth=1, linestyle=":", label="score = MOS")
    if evaluation.overall.mapping:
        line = np.linspace(scores.min(), scores.max(), 200)
        curve = {Curve.LOGISTIC: "fitted logistic", Curve.LINEAR: "fitted line"}[evaluation.overall.mapping.curve]
        axes.plot(line, evaluation.overall.mapping(line), color="black", linewidth=1.6, label=curve)
    axes.set_xlabel("score (MOS/100)")
    axes.set_ylabel("MOS/100")
    figures = f"SRCC {measurement.headline('srcc'):.3f}, PLCC after mapping {measurement.headline('plcc_mapped'):.3f}"
    axes.set_title(
        f"{card.name} on {measurement.dataset} {measurement.split}: {evaluation.overall.n} images\n{figures}",
        fontsize=10,
    )
    axes.legend(fontsize=8, loc="best")
    axes.grid(alpha=0.25)
    return figure


def error_by_subset(card: ModelCard, measurement: Measurement) -> Figure:
    """Draw a box plot of score minus MOS for each subset."""
    evaluation = measurement.evaluation
    groups = {name: keep for name, keep in _groups(evaluation).items() if keep.any()}
    figure = new_figure(max(4.0, 1.4 + 0.75 * len(groups)), 4.6)
    axes: Axes = figure.subplots()
    errors = evaluation.scores - evaluation.labels
    axes.axhline(0, color=GREY, linewidth=1, linestyle=":")
    artists = axes.boxplot([errors[keep] for keep in groups.values()], widths=0.6, patch_artist=True, showmeans=True)
    for box in artists["boxes"]:
        box.set(facecolor=BLUE, alpha=0.35)
    for median in artists["medians"]:
        median.set(color="black")
    labels = [f"{name}\nn={int(keep.sum())}" for name, keep in groups.items()]
    axes.set_xticks(range(1, len(groups) + 1), labels, rotation=0 if len(groups) <= 6 else 60, fontsize=8)
    axes.set_ylabel("score - MOS (MOS/100); above 0: overestimates")
    axes.set_title(f"{card.name} on {measurement.dataset} {measurement.split}: error by subset", fontsize=10)
    axes.grid(axis="y", alpha=0.25)
    return figure


def score_against_strength(card: ModelCard, sweep: Sweep) -> Figure:
    """Draw one small figure per kind: mean score against strength, one standard deviation of the pictures about it."""
    columns = min(_COLUMNS, len(sweep.kinds))
    lines = math.ceil(len(sweep.kinds) / columns)
    figure = new_figure(max(2.1 * columns, 4.2), 1.75 * lines + 0.9)
    grid = np.atleast_1d(figure.subplots(lines, columns, sharex=True, sharey=True)).ravel()
    deviations = dict(zip(sweep.kinds, sweep.scores.std(axis=0), strict=True))
    for axes, (kind, trend) in zip(grid, sweep.trends.items(), strict=False):
        _strengths(axes, kind, sweep.means[kind], deviations[kind], trend)
    for axes in grid[len(sweep.kinds) :]:
        axes.set_visible(False)
    falling = sum(trend.falls for trend in sweep.trends.values())
    figure.suptitle(
        f"{card.name}: mean score of {len(sweep.scores)} pictures against strength (0: original); "
        f"falls for {falling} of {len(sweep.kinds)} kinds",
        fontsize=10,
    )
    figure.supylabel("score (MOS/100)", fontsize=9)
    return figure


def _strengths(axes: Axes, kind: str, means: np.ndarray, deviations: np.ndarray, trend: Trend) -> None:
    strengths = np.arange(len(means))
    colour = BLUE if trend.falls else ORANGE
    axes.fill_between(strengths, means - deviations, means + deviations, color=colour, alpha=0.15, linewidth=0)
    axes.plot(strengths, means, color=colour, linewidth=1.4, marker="o", markersize=2.5)
    rises = list(trend.rises)
    axes.plot(rises, means[rises], linestyle="", marker="^", markersize=6, color=ORANGE)
    axes.set_title(kind.replace("_", " "), fontsize=8, color="black" if trend.falls else ORANGE)
    axes.set_xticks(strengths)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.25)


def _groups(evaluation: Evaluation) -> dict[str, np.ndarray]:
    """Masks (n,) bool of the subsets' images by name; one group where the set has no subsets."""
    names = np.array([image.subset or "images" for image in evaluation.images])
    return {str(name): names == name for name in np.unique(names)}


def routing(trial: RoutingTrial, data: str) -> Figure:
    """Draw agreement by strategy, the gains of routing, and where student and teacher differ."""
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


def comparison(comparison: Comparison, data: str) -> Figure:
    """Draw every model's SRCC, pooled and by subset, with intervals."""
    models = comparison.paired.names
    figure = new_figure(max(4.0, 2.6 * len(comparison.parts)), 1.6 + 0.35 * len(models))
    grid = np.atleast_1d(figure.subplots(1, len(comparison.parts), sharey=True))
    for axes, (name, part) in zip(grid, comparison.parts.items(), strict=True):
        _estimates(axes, models, [part.figures[model]["srcc"] for model in models])
        axes.set_title(f"{name}, n={part.n}", fontsize=9)
    grid[0].invert_yaxis()
    figure.suptitle(f"SRCC on {data}, 95 % intervals", fontsize=10)
    return figure


def _estimates(axes: Axes, names: Sequence[str], estimates: Sequence[Estimate]) -> None:
    """Draw points with their intervals, each below the previous one."""
    for index, estimate in enumerate(estimates):
        if estimate.interval:
            axes.plot(estimate.interval, [index, index], color=BLUE, linewidth=1.6)
        axes.plot([estimate.value], [index], marker="o", color=BLUE)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.grid(axis="x", alpha=0.25)
    axes.tick_params(labelsize=8)


def _differences(axes: Axes, disagreement: Disagreement) -> None:
    groups = (*disagreement.by_subset, *disagreement.by_range)
    colours = [BLUE] * len(disagreement.by_subset) + [ORANGE] * len(disagreement.by_range)
    axes.barh(range(len(groups)), [group.mean_absolute for group in groups], color=colours, alpha=0.7)
    axes.set_yticks(range(len(groups)), [group.name for group in groups], fontsize=8)
    axes.set_title("|teacher - student| by subset and student's score", fontsize=8)
    axes.invert_yaxis()
    axes.tick_params(labelsize=8)


def saliency_overlay(image: Image.Image, saliency: Saliency, *, title: str) -> Figure:
    """Draw the picture at its own aspect ratio, red where the score is pulled down, blue where it is held up."""
    grey = image.convert("L")  # without its colours, so that red and blue are the map's alone
    grey.thumbnail((_SALIENCY_PIXELS, _SALIENCY_PIXELS), Image.Resampling.LANCZOS)
    width, height = grey.size
    scale = _SALIENCY_INCHES / max(width, height)
    figure = new_figure(max(width * scale, 3.2) + 1.3, max(height * scale, 3.2) + 0.5)
    axes: Axes = figure.subplots()
    effect = enlarge(saliency.effect, width, height)
    ends = max(float(np.abs(saliency.effect).max()), _SALIENCY_LEAST)
    norm = Normalize(-ends, ends)
    axes.imshow(np.asarray(grey), cmap="gray", vmin=0, vmax=255)
    axes.imshow(
        effect,
        cmap=_SALIENCY_COLOURS,
        norm=norm,
        alpha=_SALIENCY_OPACITY * np.sqrt(np.clip(np.abs(effect) / ends, 0, 1)),
    )
    axes.set_axis_off()
    axes.set_title(title, fontsize=10)
    bar = figure.colorbar(ScalarMappable(norm, _SALIENCY_COLOURS), ax=axes, pad=0.02, aspect=30)
    legend = "the region's own score minus the picture's (MOS/100)\nred pulls it down, blue holds it up"
    bar.set_label(legend, fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return figure


def enlarge(cells: np.ndarray, width: int, height: int) -> np.ndarray:
    """Enlarge (8, 8) values smoothly to (height, width)."""
    picture = Image.fromarray(cells.astype(np.float32))
    return np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC))
