"""Summary after `dpiqa score`: the worst and the best, the spread, what was not scored and why."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from dpiqa.cli.support import console
from dpiqa.cli.support.progress import duration
from dpiqa.pipeline.local_run import ScoredObject
from dpiqa.types import Band

_FULL_TABLE_ROWS = 25  # up to this number of images all are listed
_END_ROWS = 8  # images listed of either end otherwise
_PERCENTILES = (5, 25, 50, 75, 95)


def show_summary(images: Sequence[ScoredObject], seconds: float, *, listed: Sequence[ScoredObject]) -> None:
    """Print tables of the `listed` images on stdout and lines about the whole run on stderr."""
    ordered = worst_first([image for image in listed if image.score is not None])
    _show_scores(ordered)
    if len(ordered) > 2:
        columns = [f"{percent} %" for percent in _PERCENTILES]
        values = percentiles([image.score for image in ordered if image.score is not None])
        console.table(columns, [values], title="share of images with a score below")
    bands = Counter(image.band for image in ordered if image.band)
    if bands:
        console.table([band.value for band in Band], [[bands[band] for band in Band]], title="images by band")
    _show_failures([image for image in listed if image.score is None])
    _note_run(images, seconds)


def worst_first(scored: Iterable[ScoredObject]) -> list[ScoredObject]:
    """Order by score, the worst first, whichever end that is on the scorer's scale; then by key."""

    def rank(image: ScoredObject) -> tuple[float, str]:
        score = image.score or 0.0
        return (-score if image.lower_is_better else score, image.ref.key)

    return sorted(scored, key=rank)


def percentiles(scores: Sequence[float]) -> list[float]:
    """Return the values below which 5, 25, 50, 75 and 95 percent of the scores (not empty) lie; interpolated."""
    return [float(value) for value in np.percentile(scores, _PERCENTILES)]


def address_of(image: ScoredObject) -> str:
    """Return the path or S3 address."""
    return f"s3://{image.ref.bucket}/{image.ref.key}" if image.ref.bucket else image.ref.key


def _show_scores(ordered: Sequence[ScoredObject]) -> None:
    columns = ("score", "percentile", "band", "image", "model", "route")
    rows = [
        (
            image.score,
            console.percent(image.percentile),
            image.band,
            address_of(image),
            image.model or "",
            image.route or "",
        )
        for image in ordered
    ]
    if len(rows) > _FULL_TABLE_ROWS:
        console.table(columns, rows[:_END_ROWS], title=f"the worst {_END_ROWS}")
        console.table(columns, rows[-_END_ROWS:], title=f"the best {_END_ROWS}")
    elif rows:
        console.table(columns, rows, title="worst first")


def _show_failures(failures: Sequence[ScoredObject]) -> None:
    if failures:
        rows = [(image.reason, address_of(image), image.detail) for image in failures[:_FULL_TABLE_ROWS]]
        more = f", the first {_FULL_TABLE_ROWS}" if len(failures) > _FULL_TABLE_ROWS else ""
        console.table(("reason", "image", "detail"), rows, title=f"not scored: {len(failures)}{more}")


def _note_run(images: Sequence[ScoredObject], seconds: float) -> None:
    """Print on stderr how many images were scored, how fast, by which models and on which scale."""
    scored = [image for image in images if image.score is not None]
    models = ", ".join(f"{model} {count}" for model, count in Counter(image.model for image in scored).most_common())
    rate = f"{len(images) / seconds:.1f}/s" if seconds > 0 else ""
    console.note(
        f"{len(scored)} of {len(images)} images scored in {duration(seconds)}, {rate}, models loaded included"
        f"{f' ({models})' if models else ''}."
    )
    for scale in sorted({image.scale for image in scored if image.scale}):
        console.note(f"score: {scale}")
    populations = {f"{image.reference.n} images, {image.reference.population}" for image in scored if image.reference}
    for population in sorted(populations):
        console.note(f"percentile and band: by the reference population ({population}); 100 is best")
