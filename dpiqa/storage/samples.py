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

from sqlalchemy import Connection, Double, func, literal, select, true
from sqlalchemy.dialects.postgresql import ARRAY

from dpiqa.errors import InvalidRequest
from dpiqa.storage.distributions import Distribution, clip
from dpiqa.storage.result_tables import BIN_WIDTH, HIGHEST_BIN, LOWEST_BIN
from dpiqa.storage.rollups import Scope, read_bins
from dpiqa.storage.score_filter import ScoreFilter, begins_with, equalities, in_job, score_bounds
from dpiqa.storage.scores import ScoreRow, read_score_rows
from dpiqa.storage.stats import MAX_ROWS, rows_of, scope_of
from dpiqa.storage.tables import results

#: Rows that a sample may read in the index: a prefix or job that is a small part of its bucket gets a smaller sample.
MAX_STEPS = 50_000


@dataclass(frozen=True, slots=True)
class Sample:
    """Images drawn at random without repetition, in random order."""

    rows: list[ScoreRow]
    population: int  #: number of results that they were drawn from


def sample_scores(c: Connection, conditions: ScoreFilter, n: int, *, seed: int = 0) -> Sample:
    """Draw up to `n` of the results that conditions with a profile, bucket, prefix, job and range choose.

    The same seed draws the same images while the results stay the same. Raises `InvalidRequest` where more than
    `MAX_ROWS` results fit and no roll-up counts them, `Unavailable` while the roll-ups are being built.
    """
    chance = Random(seed)  # noqa: S311 - nothing is secret
    rows = rows_of(c, conditions, None)
    if rows is not None:
        ids = list(c.execute(select(rows.read.c.image_id).where(rows.fits).order_by(rows.read.c.image_id)).scalars())
        return _read(c, conditions, chance.sample(ids, min(n, len(ids))), len(ids))
    scope = scope_of(c, conditions, None)
    if isinstance(scope, str):
        raise InvalidRequest(
            f"no sample of more than {MAX_ROWS:,} results: {scope}", hint="ask by bucket, folder or job"
        )
    bins = Distribution(
        part for found in read_bins(c, scope) for part in clip(found, conditions.min, conditions.max, None)
    )
    if not bins.counts:
        return Sample([], 0)
    along = Distribution(part for found in read_bins(c, _whole(scope)) for part in found.counts)
    n = min(n, max(1, round(MAX_STEPS * bins.total / along.total)))
    numbers, weights = zip(*bins.counts, strict=True)
    starts = [_start(chance, number, conditions) for number in chance.choices(numbers, weights, k=n)]
    ids = list(dict.fromkeys(_walk(c, conditions, starts)))
    return _read(c, conditions, ids, bins.n)


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


def _walk(c: Connection, conditions: ScoreFilter, starts: Sequence[tuple[float, float, float]]) -> list[int]:
    """Return the image at or after each start; where its bin has none after it, the first of the bin."""
    found = _first(c, conditions, [(at, high) for _, at, high in starts])
    missed = [start for start, image_id in zip(starts, found, strict=True) if image_id is None]
    again = _first(c, conditions, [(low, at) for low, at, _ in missed]) if missed else []
    return [image_id for image_id in (*found, *again) if image_id is not None]


def _first(c: Connection, conditions: ScoreFilter, spans: Sequence[tuple[float, float]]) -> list[int | None]:
    """Return the image with the lowest score in each span, or None."""
    r = results.c
    edges = func.unnest(*(literal([span[end] for span in spans], ARRAY(Double)) for end in (0, 1)))
    table = edges.table_valued("least", "most", with_ordinality="number", name="spans").render_derived()
    fits = [*equalities(r, conditions), *score_bounds(r, conditions)]
    if conditions.prefix:
        fits.append(begins_with(r, conditions.prefix))
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


def _read(c: Connection, conditions: ScoreFilter, ids: Sequence[int], population: int) -> Sample:
    query = select(*results.c).where(results.c.image_id.in_(ids), results.c.profile == conditions.profile)
    by_id = {row.image_id: row for row in read_score_rows(c, query, results.c.scorer_id)}
    return Sample([by_id[image_id] for image_id in ids if image_id in by_id], population)
