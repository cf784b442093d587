"""Random samples of the scores that count, at a cost that does not grow with the archive.

Up to `MAX_ROWS` results are all read, and drawn from exactly. Of more, each image is drawn in two steps: a bin of the
score, in proportion to the results that the roll-ups count in it, then the first result of the view from a random score
in the bin on, along an index. Within a bin, a thousandth of the scale, results that follow a gap are likelier: that
depends on nothing but the scores beside it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, Double, any_, func, literal, select, true
from sqlalchemy.dialects.postgresql import ARRAY

from dpiqa.errors import InvalidRequest
from dpiqa.storage.distributions import Distribution, clip
from dpiqa.storage.references import scorers_of_model
from dpiqa.storage.result_tables import BIN_WIDTH, HIGHEST_BIN, LOWEST_BIN
from dpiqa.storage.rollups import Scope, read_bins
from dpiqa.storage.score_filter import ScoreFilter, begins_with_unestimated, equalities, in_job, others, score_bounds
from dpiqa.storage.scores import ScoreRow, read_score_rows
from dpiqa.storage.stats import MAX_ROWS, rows_of, scope_of
from dpiqa.storage.tables import results

#: Rows that a sample may read in the index: a prefix or job that is a small part of its bucket gets a smaller sample.
MAX_STEPS = 10_000


@dataclass(frozen=True, slots=True)
class Drawn:
    """Images drawn at random without repetition, in random order."""

    image_ids: list[int]
    population: int  #: number of results that they were drawn from


@dataclass(frozen=True, slots=True)
class Sample:
    """The scores of images drawn at random without repetition, in random order."""

    rows: list[ScoreRow]
    population: int  #: number of results that they were drawn from


def sample_scores(c: Connection, conditions: ScoreFilter, n: int, *, seed: int = 0) -> Sample:
    """Draw up to `n` results, as `draw_images`, and read them."""
    drawn = draw_images(c, conditions, n, seed=seed)
    query = select(*results.c).where(is_drawn(results.c.image_id, drawn), results.c.profile == conditions.profile)
    by_id = {row.image_id: row for row in read_score_rows(c, query, results.c.scorer_id)}
    return Sample([by_id[image_id] for image_id in drawn.image_ids if image_id in by_id], drawn.population)


def is_drawn(image_id: ColumnElement[int], drawn: Drawn) -> ColumnElement[bool]:
    """Build the condition that an image was drawn. One parameter: thousands of them take the driver half a second."""
    return image_id == any_(literal(drawn.image_ids, ARRAY(BigInteger)))


def draw_images(c: Connection, conditions: ScoreFilter, n: int, *, seed: int = 0) -> Drawn:
    """Draw up to `n` of the results that conditions with a profile, bucket, prefix, job, range and model choose.

    The same seed draws the same images while the results stay the same. Raises `InvalidRequest` where more than
    `MAX_ROWS` results fit and no roll-up counts them, `Unavailable` while the roll-ups are being built.
    """
    chance = Random(seed)  # noqa: S311 - nothing is secret
    scorer_ids = None if conditions.model is None else tuple(scorers_of_model(c, conditions.model))
    rows = rows_of(c, conditions, scorer_ids)
    if rows is not None:
        ids = list(c.execute(select(rows.read.c.image_id).where(rows.fits).order_by(rows.read.c.image_id)).scalars())
        return Drawn(chance.sample(ids, min(n, len(ids))), len(ids))
    scope = scope_of(c, conditions, scorer_ids)
    if isinstance(scope, str):
        raise InvalidRequest(
            f"no sample of more than {MAX_ROWS:,} results: {scope}", hint="ask by bucket, folder or job"
        )
    bins = Distribution(
        part for found in read_bins(c, scope) for part in clip(found, conditions.min, conditions.max, None)
    )
    if not bins.counts:
        return Drawn([], 0)
    along = Distribution(part for found in read_bins(c, _whole(scope)) for part in found.counts)
    n = min(n, max(1, round(MAX_STEPS * bins.total / along.total)))
    numbers, weights = zip(*bins.counts, strict=True)
    starts = [_start(chance, number, conditions) for number in chance.choices(numbers, weights, k=n)]
    return Drawn(list(dict.fromkeys(_walk(c, conditions, scorer_ids, starts))), bins.n)


def _whole(scope: Scope) -> Scope:
    """Return what the index of a walk holds: all scores of the profile, or of its bucket."""
    return Scope(profile=scope.profile, bucket=scope.bucket)


def _start(chance: Random, number: int, conditions: ScoreFilter) -> tuple[float, float, float]:
    """Return the first score of a bin, a random one, and the last: within the range of the conditions."""
    low = -math.inf if number == LOWEST_BIN else number * BIN_WIDTH
    high = math.inf if number == HIGHEST_BIN else (number + 1) * BIN_WIDTH
    low = low if conditions.min is None else max(low, conditions.min)
    high = high if conditions.max is None else min(high, conditions.max)
    is_bounded = math.isfinite(low) and math.isfinite(high)
    return low, (chance.uniform(low, high) if is_bounded else low), high


def _walk(
    c: Connection,
    conditions: ScoreFilter,
    scorer_ids: Sequence[str] | None,
    starts: Sequence[tuple[float, float, float]],
) -> list[int]:
    """Return the image at or after each start; where its bin has none after it, the first of the bin."""
    found = _first(c, conditions, scorer_ids, [(at, high) for _, at, high in starts])
    missed = [start for start, image_id in zip(starts, found, strict=True) if image_id is None]
    again = _first(c, conditions, scorer_ids, [(low, at) for low, at, _ in missed]) if missed else []
    return [image_id for image_id in (*found, *again) if image_id is not None]


def _first(
    c: Connection, conditions: ScoreFilter, scorer_ids: Sequence[str] | None, spans: Sequence[tuple[float, float]]
) -> list[int | None]:
    """Return the image with the lowest score in each span, or None."""
    r = results.c
    edges = func.unnest(*(literal([span[end] for span in spans], ARRAY(Double)) for end in (0, 1)))
    table = edges.table_valued("least", "most", with_ordinality="number", name="spans").render_derived()
    fits = [*equalities(r, conditions), *score_bounds(r, conditions), *others(r, conditions, scorer_ids)]
    if conditions.prefix:
        fits.append(begins_with_unestimated(r, conditions.prefix))
    if conditions.job is not None:
        fits.append(in_job(r, conditions.job))
    in_span = (
        select(r.image_id)
        .where(*fits, r.score >= table.c.least, r.score <= table.c.most)
        .order_by(r.score, r.image_id)
        .limit(1)
        .lateral("in_span")
    )
    query: Any = select(in_span.c.image_id).select_from(table).outerjoin(in_span, true()).order_by(table.c.number)
    return list(c.execute(query).scalars())
