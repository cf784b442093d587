"""Figures about a cut-off: the share that it rejects, and its precision and recall by people's labels."""

import math
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from dpiqa.storage.distributions import HistogramBin
from dpiqa.storage.labels import LabelsOfView, read_labels
from dpiqa.storage.profiles import direction_of
from dpiqa.storage.score_filter import ScoreFilter
from dpiqa.storage.scores import ScoreRow, list_scores
from dpiqa.storage.stats import read_stats, threshold
from dpiqa.thresholds import MIN_LABELS, CutoffFigures, curve, cutoff_for_precision, figures_at
from dpiqa.types import Direction, ScoreOrder

_BARS = 80  #: of a histogram, about
_STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)  #: widths of a bar
_USUAL_SHARE = 0.1  #: that the cut-off rejects where none is given
WANTED_PRECISION = 0.9  #: where none is given


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelFigures:
    """Figures of a cut-off by labels, and the cut-offs that they suggest."""

    n: int  #: labels on images of the view
    n_rejected: int  #: of those, the images that people reject
    n_random: int  #: of those, the images that are a random sample of the view
    is_random: bool  #: whether the figures are of the random ones alone, or of all
    n_used: int  #: labels that the figures are computed from
    at: CutoffFigures | None  #: at the cut-off; None, as the curve is empty, with fewer than `MIN_LABELS`
    curve: list[CutoffFigures]  #: at every cut-off that tells labels apart, the one that rejects fewest first
    wanted_precision: float  #: 0 to 1
    for_precision: CutoffFigures | None  #: the cut-off that rejects most with at least this precision
    for_precision_surely: CutoffFigures | None  #: the same, with the lower bound of the interval


@dataclass(frozen=True, slots=True, kw_only=True)
class CutoffReport:
    """A view of scores, and a cut-off in it."""

    profile: str
    direction: Direction  #: which end of the scores is better
    n: int  #: results of the view
    cutoff: float
    n_rejected: int  #: results that the cut-off rejects, right to 0.001 of the scale
    share_rejected: float  #: 0 to 1
    histogram: list[HistogramBin]
    labels: LabelFigures


def report_cutoff(
    c: Connection,
    conditions: ScoreFilter,
    label_set: str,
    *,
    cutoff: float | None = None,
    precision: float = WANTED_PRECISION,
) -> CutoffReport:
    """Return figures about a cut-off among the results that conditions with a profile choose.

    `cutoff` None: the one that rejects the worst tenth. `precision`: for which a cut-off is wanted, 0-1. Raises as
    `dpiqa.storage.stats.read_stats`.
    """
    direction = direction_of(c, conditions.profile or "")
    whole = read_stats(c, conditions, step=0.001)
    if cutoff is None:
        at_share = threshold(c, conditions, _USUAL_SHARE, descending=direction is Direction.LOWER)
        cutoff = 0.5 if at_share is None else round(at_share, 3)
    n_rejected = _count_rejected(c, conditions, cutoff, direction)
    return CutoffReport(
        profile=conditions.profile or "",
        direction=direction,
        n=whole.n,
        cutoff=cutoff,
        n_rejected=n_rejected,
        share_rejected=n_rejected / whole.n if whole.n else 0.0,
        histogram=_bars(whole.histogram),
        labels=figures_of_labels(read_labels(c, label_set, conditions), cutoff, direction, precision),
    )


def images_at(
    c: Connection, conditions: ScoreFilter, cutoff: float, direction: Direction, n: int
) -> tuple[list[ScoreRow], list[ScoreRow]]:
    """Return the up to `n` rejected and `n` accepted images whose scores are nearest to a cut-off, nearest first."""
    is_higher = direction is Direction.HIGHER
    below = _within(conditions, high=math.nextafter(cutoff, -math.inf) if is_higher else cutoff)
    above = _within(conditions, low=cutoff if is_higher else math.nextafter(cutoff, math.inf))
    sides = [
        [] if side is None else list_scores(c, side, order=order, limit=n).items
        for side, order in ((below, ScoreOrder.HIGHEST_FIRST), (above, ScoreOrder.LOWEST_FIRST))
    ]
    return (sides[0], sides[1]) if is_higher else (sides[1], sides[0])


def figures_of_labels(found: LabelsOfView, cutoff: float, direction: Direction, precision: float) -> LabelFigures:
    """Return the figures of labels: of the random ones if there are `MIN_LABELS` of them, otherwise of all."""
    is_random = len(found.random) >= MIN_LABELS
    used = found.random if is_random else found.all
    enough = len(used) >= MIN_LABELS
    points = curve(used, direction) if enough else []
    return LabelFigures(
        n=len(found.all),
        n_rejected=sum(label.rejected for label in found.all),
        n_random=len(found.random),
        is_random=is_random,
        n_used=len(used),
        at=figures_at(used, cutoff, direction) if enough else None,
        curve=points,
        wanted_precision=precision,
        for_precision=cutoff_for_precision(points, precision),
        for_precision_surely=cutoff_for_precision(points, precision, sure=True),
    )


def _count_rejected(c: Connection, conditions: ScoreFilter, cutoff: float, direction: Direction) -> int:
    """Return how many results lie on the worse side of the cut-off."""
    side = _within(conditions, high=cutoff) if direction is Direction.HIGHER else _within(conditions, low=cutoff)
    return 0 if side is None else read_stats(c, side).n


def _within(conditions: ScoreFilter, *, low: float = -math.inf, high: float = math.inf) -> ScoreFilter | None:
    """Return the conditions within further bounds of the score; None where nothing lies within them."""
    low = low if conditions.min is None else max(low, conditions.min)
    high = high if conditions.max is None else min(high, conditions.max)
    if low > high:
        return None
    bounds = [bound if math.isfinite(bound) else None for bound in (low, high)]
    return replace(conditions, min=bounds[0], max=bounds[1])


def _bars(fine: list[HistogramBin]) -> list[HistogramBin]:
    """Return a histogram in about `_BARS` bars, of one in thousandths."""
    if not fine:
        return []
    width = next((step for step in _STEPS if len(fine) * 0.001 / step <= _BARS), _STEPS[-1])
    merged: dict[int, int] = {}
    for one in fine:
        number = round(one.low * 1000) // round(width * 1000)
        merged[number] = merged.get(number, 0) + one.n
    return [HistogramBin(round(i * width, 6), round((i + 1) * width, 6), n) for i, n in sorted(merged.items())]
