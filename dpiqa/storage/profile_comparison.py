"""Two profiles on the same images: agreement of their ranks, images that moved most, decisions that differ."""

from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection, select

from dpiqa.errors import InvalidRequest
from dpiqa.score_comparison import (
    Correlation,
    Decisions,
    cutoff_at_share,
    decisions,
    moved_most,
    rank_correlation,
    ranks,
    rejected,
)
from dpiqa.storage.profiles import direction_of
from dpiqa.storage.samples import sample_scores
from dpiqa.storage.score_filter import ScoreFilter
from dpiqa.storage.scores import ScoreRow
from dpiqa.storage.tables import results
from dpiqa.types import Direction

MAX_SAMPLE = 5_000  #: images that are compared
MAX_POINTS = 1_000  #: of the scatter plot
_USUAL_SHARE = 0.1  #: that both cut-offs reject where none is given


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedImage:
    """An image with its scores under both profiles."""

    bucket: str
    key: str
    etag: str
    first_score: float
    second_score: float
    first_rank: float  #: 0, the worst of the compared images, to 1, the best
    second_rank: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileComparison:
    """The second profile against the first. Lists hold the images that differ most first."""

    first: str
    second: str
    first_direction: Direction  #: which end of its scores is better
    second_direction: Direction
    population: int  #: images of the view with a score under the first profile
    n_sampled: int  #: of those, the images that were drawn at random
    n: int  #: of those, the images with a score under the second profile, too: what is compared
    correlation: Correlation | None  #: Spearman's; None: one side has a single score, or there are too few images
    first_cutoff: float | None
    second_cutoff: float | None
    n_both: int  #: images that both cut-offs reject
    n_first_alone: int
    n_second_alone: int
    n_neither: int
    points: list[tuple[float, float]]  #: scores under both of the first `MAX_POINTS` images
    rose: list[ComparedImage]  #: that the second ranks higher
    fell: list[ComparedImage]
    first_alone: list[ComparedImage]  #: that the first cut-off alone rejects
    second_alone: list[ComparedImage]


def compare_profiles(
    c: Connection,
    conditions: ScoreFilter,
    second: str,
    *,
    cutoff: float | None = None,
    second_cutoff: float | None = None,
    n_examples: int = 12,
    sample: int = MAX_SAMPLE,
    seed: int = 0,
) -> ProfileComparison:
    """Compare profiles on a random sample of the images that conditions, with the first profile, choose.

    `cutoff` None: rejects the worst tenth of the compared images; `second_cutoff` None: as many as the first cut-off.
    `sample`: at most `MAX_SAMPLE`. Raises as `sample_scores`.
    """
    first = conditions.profile or ""
    if first == second:
        raise InvalidRequest("a profile cannot be compared with itself", hint="name two profiles")
    up, up_second = direction_of(c, first), direction_of(c, second)
    drawn = sample_scores(c, conditions, min(sample, MAX_SAMPLE), seed=seed)
    rows, others = _paired(c, drawn.rows, second)
    scores = np.array([row.score for row in rows]), np.array(others)
    placed = ranks(scores[0], up), ranks(scores[1], up_second)
    cutoffs, decided = _decide(scores, (up, up_second), (cutoff, second_cutoff))

    def images(indexes: np.ndarray) -> list[ComparedImage]:
        return [_image(rows[i], others[i], placed[0][i], placed[1][i]) for i in indexes[:n_examples]]

    def widest(mask: np.ndarray) -> np.ndarray:
        indexes = np.flatnonzero(mask)
        return indexes[np.argsort(-np.abs(placed[1][indexes] - placed[0][indexes]), kind="stable")]

    rose, fell = moved_most(*placed, n_examples)
    of_kind = {kind: getattr(decided, kind) for kind in ("both", "first_alone", "second_alone", "neither")}
    return ProfileComparison(
        first=first,
        second=second,
        first_direction=up,
        second_direction=up_second,
        population=drawn.population,
        n_sampled=len(drawn.rows),
        n=len(rows),
        correlation=rank_correlation(*placed),
        first_cutoff=cutoffs[0],
        second_cutoff=cutoffs[1],
        **{f"n_{kind}": int(mask.sum()) for kind, mask in of_kind.items()},
        points=[(row.score, other) for row, other in zip(rows[:MAX_POINTS], others, strict=False)],
        rose=images(rose),
        fell=images(fell),
        first_alone=images(widest(decided.first_alone)),
        second_alone=images(widest(decided.second_alone)),
    )


def _paired(c: Connection, rows: list[ScoreRow], second: str) -> tuple[list[ScoreRow], list[float]]:
    """Return the images that have a score under the second profile, too, and these scores."""
    ids = [row.image_id for row in rows]
    of_second = results.c.image_id.in_(ids), results.c.profile == second
    found = {
        row.image_id: row.score for row in c.execute(select(results.c.image_id, results.c.score).where(*of_second))
    }
    paired = [row for row in rows if row.image_id in found]
    return paired, [found[row.image_id] for row in paired]


def _decide(
    scores: tuple[np.ndarray, np.ndarray],
    directions: tuple[Direction, Direction],
    cutoffs: tuple[float | None, float | None],
) -> tuple[tuple[float | None, float | None], Decisions]:
    """Return the cut-offs, those that are not given chosen by share, and what they decide."""
    first, second = cutoffs
    if first is None:
        first = cutoff_at_share(scores[0], _USUAL_SHARE, directions[0])
    if first is None or not len(scores[0]):
        nothing = np.zeros(0, dtype=bool)
        return (first, second), decisions(nothing, nothing)
    by_first = rejected(scores[0], first, directions[0])
    if second is None:
        second = cutoff_at_share(scores[1], float(by_first.mean()), directions[1])
    by_second = by_first if second is None else rejected(scores[1], second, directions[1])
    return (first, second), decisions(by_first, by_second)


def _image(row: ScoreRow, other: float, rank: float, other_rank: float) -> ComparedImage:
    return ComparedImage(
        bucket=row.bucket,
        key=row.key,
        etag=row.etag,
        first_score=row.score,
        second_score=other,
        first_rank=float(rank),
        second_rank=float(other_rank),
    )
