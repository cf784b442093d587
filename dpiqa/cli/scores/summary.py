"""Summary at the end of `dpiqa score`: the worst, the best, the spread, what was not scored. Memory is flat."""

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dpiqa.cli.scores.ends import Ends
from dpiqa.cli.scores.rows import MEASURE_HEADINGS, address_of
from dpiqa.cli.support import console
from dpiqa.cli.support.progress import duration
from dpiqa.exports.growing import Row
from dpiqa.pipeline.local_run import ScoredObject
from dpiqa.types import Band

_FULL_TABLE_ROWS = 25  # up to this number of images all are listed
_END_ROWS = 8  # images listed of either end otherwise
_PERCENTILES = (5, 25, 50, 75, 95)


@dataclass(slots=True)
class Tally:
    """Counts of one run."""

    n: int = 0  #: images
    n_complete: int = 0  #: images that every model has scored
    models: Counter[str] = field(default_factory=Counter)  #: images by the model whose score they have
    scales: set[str] = field(default_factory=set)
    populations: set[str] = field(default_factory=set)

    def add(self, images: Sequence[ScoredObject]) -> None:
        """Count an image, under each model."""
        self.n += 1
        self.n_complete += all(image.score is not None for image in images)
        for image in images:
            if image.score is not None:
                self.models[image.model or ""] += 1
                self.scales.add(image.scale or "")
                if image.reference:
                    self.populations.add(f"{image.reference.n} images, {image.reference.population}")

    def note(self, seconds: float, n_skipped: int) -> None:
        """Print on stderr how many images were scored, how fast, by which models and on which scale."""
        models = ", ".join(f"{model} {count}" for model, count in self.models.most_common())
        rate = f", {self.n / seconds:.1f}/s, models loaded included" if self.n and seconds > 0 else ""
        known = f"; {n_skipped:,} were known before" if n_skipped else ""
        console.note(
            f"{self.n_complete} of {self.n} images scored in {duration(seconds)}{rate}"
            f"{f' ({models})' if models else ''}{known}."
        )
        for scale in sorted(self.scales):
            console.note(f"score: {scale}")
        for population in sorted(self.populations):
            console.note(f"percentile and band: by the reference population ({population}); 100 is best")


def show_rows(rows: Iterable[Row]) -> None:
    """Print tables of images under one model: all if they are few, otherwise the worst and the best."""
    ends, scores, bands, failures = Ends(n=_FULL_TABLE_ROWS), array("d"), Counter[Any](), list[Row]()
    n_failures = 0
    for row in rows:
        if row["score"] is None:
            n_failures += 1
            if len(failures) < _FULL_TABLE_ROWS:
                failures.append(row)
            continue
        ends.add(row)
        scores.append(row["score"])
        bands[row["band"]] += row["band"] is not None
    _show_scores(ends, len(scores))
    if len(scores) > 2:
        columns = [f"{percent} %" for percent in _PERCENTILES]
        console.table(columns, [percentiles(scores)], title="share of images with a score below")
    if bands.total():
        console.table([band.value for band in Band], [[bands[band] for band in Band]], title="images by band")
    if failures:
        cells = [(row["reason"], address_of(row), row["detail"]) for row in failures]
        more = f", the first {_FULL_TABLE_ROWS}" if n_failures > _FULL_TABLE_ROWS else ""
        title = f"not scored: {n_failures}{more}"
        console.table(("reason", "image", "detail"), cells, title=title, whole=("image",), droppable=("detail",))


def percentiles(scores: Sequence[float]) -> list[float]:
    """Return the values below which 5, 25, 50, 75 and 95 percent of the scores (not empty) lie; interpolated."""
    return [float(value) for value in np.percentile(scores, _PERCENTILES)]


def _show_scores(ends: Ends, n: int) -> None:
    columns = ("score", "percentile", "band", "image", "model", "route")

    def show(rows: Sequence[Row], title: str) -> None:
        measures = _measure_columns(rows)
        cells = [
            (
                row["score"],
                console.ordinal(row["percentile"]),
                row["band"],
                address_of(row),
                row["model"] or "",
                row["route"] or "",
                *(row.get(name) for name in measures.values()),
            )
            for row in rows
        ]
        droppable = ("route", "model", "percentile", *reversed(measures))
        console.table((*columns, *measures), cells, title=title, whole=("image",), droppable=droppable)

    if n > _FULL_TABLE_ROWS:
        show(ends.worst()[:_END_ROWS], f"the worst {_END_ROWS}")
        show(ends.best()[-_END_ROWS:], f"the best {_END_ROWS}")
    elif n:
        show(ends.worst(), "worst first")


def _measure_columns(rows: Sequence[Row]) -> dict[str, str]:
    """Return the headings and names of the measures, where any of the rows has some."""
    return MEASURE_HEADINGS if any(row.get("width") is not None for row in rows) else {}


def show_several(names: Sequence[str], rows: Iterable[Row]) -> None:
    """Print a column for each model, the worst image by the first of them at the top."""
    ends, failures, n = Ends(f"{names[0]}.", n=_FULL_TABLE_ROWS), list[Row](), 0
    for row in rows:
        n += 1
        if row[f"{names[0]}.score"] is not None:
            ends.add(row)
        elif len(failures) < _FULL_TABLE_ROWS:
            failures.append(row)
    shown = [*ends.worst(), *failures][:_FULL_TABLE_ROWS]
    measures = _measure_columns(shown)
    cells = [
        (address_of(row), *(_cell(row, name) for name in names), *(row.get(name) for name in measures.values()))
        for row in shown
    ]
    more = f", the first {_FULL_TABLE_ROWS} of {n}" if n > _FULL_TABLE_ROWS else ""
    title = f"worst first by {names[0]}{more}"
    console.table(
        ("image", *names, *measures), cells, title=title, whole=("image",), droppable=tuple(reversed(measures))
    )


def _cell(row: Row, name: str) -> str:
    score, band = row[f"{name}.score"], row[f"{name}.band"]
    if score is None:
        return str(row[f"{name}.reason"])
    return f"{score:.3f} {band or ''}".rstrip()
