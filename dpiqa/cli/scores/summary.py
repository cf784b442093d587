"""What people see after `dpiqa score`: the worst and the best, the spread, what was not scored and why."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from dpiqa.cli.support import console
from dpiqa.cli.support.progress import duration
from dpiqa.types import Band

if TYPE_CHECKING:
    from dpiqa.pipeline.local_run import ScoredObject

_ALL_BELOW = 25  # images; so many are shown in full
_ENDS = 8  # images shown of either end otherwise
_PERCENTILES = (5, 25, 50, 75, 95)


def show_summary(results: "Sequence[ScoredObject]", seconds: float, *, shown: "Sequence[ScoredObject]") -> None:
    """Print tables of what is `shown` on stdout and lines about the whole run on stderr."""
    chosen = worst_first([one for one in shown if one.score is not None])
    _show_scores(chosen)
    _show_spread(sorted(one.score for one in chosen if one.score is not None))
    _show_bands(chosen)
    _show_failures([one for one in shown if one.score is None])
    scored = [one for one in results if one.score is not None]
    models = ", ".join(f"{model} {count}" for model, count in Counter(one.model for one in scored).most_common())
    rate = f"{len(results) / seconds:.1f}/s" if seconds > 0 else ""
    console.note(
        f"{len(scored)} of {len(results)} images scored in {duration(seconds)}, {rate}, models loaded included"
        f"{f' ({models})' if models else ''}."
    )
    for scale in sorted({one.scale for one in scored if one.scale}):
        console.note(f"score: {scale}")
    for population in sorted(
        {f"{one.reference.n} images, {one.reference.population}" for one in scored if one.reference}
    ):
        console.note(f"percentile and band: by the reference population ({population}); 100 is best")


def worst_first(scored: "Iterable[ScoredObject]") -> "list[ScoredObject]":
    """Order by score, the worst first, whichever end that is on the scorer's scale; then by key."""
    return sorted(scored, key=lambda one: (-(one.score or 0) if one.lower_is_better else one.score or 0, one.ref.key))


def _show_scores(scored: "Sequence[ScoredObject]") -> None:
    columns = ("score", "percentile", "band", "image", "model", "route")
    if not scored:
        return
    if len(scored) <= _ALL_BELOW:
        console.table(columns, map(_line, scored), title="worst first")
        return
    console.table(columns, map(_line, scored[:_ENDS]), title=f"the worst {_ENDS}")
    console.table(columns, map(_line, scored[-_ENDS:]), title=f"the best {_ENDS}")


def _line(one: "ScoredObject") -> tuple[float | str | None, ...]:
    return one.score, console.percent(one.percentile), one.band, where(one), one.model or "", one.route or ""


def where(one: "ScoredObject") -> str:
    """Path or S3 address."""
    return f"s3://{one.ref.bucket}/{one.ref.key}" if one.ref.bucket else one.ref.key


def _show_spread(scores: Sequence[float]) -> None:
    if len(scores) > 2:
        columns = [f"{percent} %" for percent in _PERCENTILES]
        console.table(columns, [percentiles(scores)], title="share of images with a score below")


def _show_bands(scored: "Sequence[ScoredObject]") -> None:
    counts = Counter(one.band for one in scored if one.band)
    if counts:
        console.table([band.value for band in Band], [[counts[band] for band in Band]], title="images by band")


def percentiles(ordered: Sequence[float]) -> list[float]:
    """Values below which 5, 25, 50, 75 and 95 percent of `ordered` (ascending, not empty) lie; interpolated."""
    return [_percentile(ordered, percent) for percent in _PERCENTILES]


def _percentile(ordered: Sequence[float], percent: float) -> float:
    position = (len(ordered) - 1) * percent / 100
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def _show_failures(failures: "Sequence[ScoredObject]") -> None:
    if failures:
        rows = [(one.reason, where(one), one.detail) for one in failures[:_ALL_BELOW]]
        more = f", the first {_ALL_BELOW}" if len(failures) > _ALL_BELOW else ""
        console.table(("reason", "image", "detail"), rows, title=f"not scored: {len(failures)}{more}")
