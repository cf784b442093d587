"""Two scorings of the same images, by two profiles or by the student and the teacher of one: ranks and decisions."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, select

from dpiqa.errors import InvalidRequest, NotFound
from dpiqa.models.choice import ModelChoice
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
from dpiqa.storage.profiles import direction_of, read_profile
from dpiqa.storage.samples import Drawn, draw_images, is_drawn
from dpiqa.storage.score_filter import ScoreFilter
from dpiqa.storage.tables import results
from dpiqa.types import Direction

MAX_SAMPLE = 5_000  #: images that are compared
MAX_POINTS = 1_000  #: of the scatter plot
_USUAL_SHARE = 0.1  #: that both cut-offs reject where none is given


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedImage:
    """An image with both of its scores."""

    bucket: str
    key: str
    etag: str
    first_score: float
    second_score: float
    first_rank: float  #: 0, the worst of the compared images, to 1, the best
    second_rank: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreComparison:
    """The second scoring against the first. Lists hold the images that differ most first."""

    profile: str  #: the first one
    first: str  #: a profile, or the student's model
    second: str  #: a profile, or the teacher's model
    first_direction: Direction  #: which end of its scores is better
    second_direction: Direction
    population: int  #: images of the view with a score under the first profile, or of its teacher
    n_sampled: int  #: of those, the images that were drawn at random
    n: int  #: of those, the images with both scores: what is compared
    correlation: Correlation | None  #: Spearman's; None: one side has a single score, or there are too few images
    first_cutoff: float | None
    second_cutoff: float | None
    n_both: int  #: images that both cut-offs reject
    n_first_alone: int
    n_second_alone: int
    n_neither: int
    points: list[tuple[float, float]]  #: both scores of the first `MAX_POINTS` images
    rose: list[ComparedImage]  #: that the second ranks higher
    fell: list[ComparedImage]
    first_alone: list[ComparedImage]  #: that the first cut-off alone rejects
    second_alone: list[ComparedImage]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Cut-offs and sample of a comparison."""

    cutoff: float | None = None  #: of the first scoring; None: rejects the worst tenth of the compared images
    second_cutoff: float | None = None  #: None: rejects as many as the first one
    sample: int = MAX_SAMPLE  #: images to compare, at most; no more than `MAX_SAMPLE`
    seed: int = 0
    n_examples: int = 12  #: of each list


def compare_profiles(c: Connection, conditions: ScoreFilter, second: str, options: Options) -> ScoreComparison:
    """Compare profiles on a random sample of the images that conditions, with the first profile, choose.

    Raises as `draw_images`.
    """
    first = conditions.profile or ""
    if first == second:
        raise InvalidRequest("a profile cannot be compared with itself", hint="name two profiles")
    drawn = draw_images(c, conditions, min(options.sample, MAX_SAMPLE), seed=options.seed)
    one, other = results.alias("one"), results.alias("other")
    pairs = (
        select(*_shown(one.c), one.c.score.label("first_score"), other.c.score.label("second_score"))
        .join_from(one, other, other.c.image_id == one.c.image_id)
        .where(is_drawn(one.c.image_id, drawn), one.c.profile == first, other.c.profile == second)
    )
    directions = direction_of(c, first), direction_of(c, second)
    return _compared(first, (first, second), directions, drawn, _read(c, pairs, drawn), options)


def compare_models(c: Connection, conditions: ScoreFilter, options: Options) -> ScoreComparison:
    """Compare the student of a profile with its teacher, on a random sample of the images that both scored.

    Those are the images that were sent to the teacher: where routing chose them, they lie around its cut-offs. Raises
    `InvalidRequest` for a profile without a teacher, and as `draw_images`.
    """
    profile = conditions.profile or ""
    models = models_of(c, profile)
    if models is None:
        raise InvalidRequest(f"profile {profile} has no teacher", hint="name two profiles to compare")
    student, teacher = models
    drawn = draw_images(c, replace(conditions, model=teacher.model), min(options.sample, MAX_SAMPLE), seed=options.seed)
    r = results.c
    pairs = select(*_shown(r), r.student_score.label("first_score"), r.teacher_score.label("second_score")).where(
        is_drawn(r.image_id, drawn), r.profile == profile, r.student_score.is_not(None), r.teacher_score.is_not(None)
    )
    direction = direction_of(c, profile)
    names = str(student), str(teacher)
    return _compared(profile, names, (direction, direction), drawn, _read(c, pairs, drawn), options)


def models_of(c: Connection, profile_id: str) -> tuple[ModelChoice, ModelChoice] | None:
    """Return the student and the teacher of a profile that jobs used; None where it has no teacher."""
    try:
        profile = read_profile(c, profile_id)
    except NotFound:
        return None
    return None if profile.teacher is None else (profile.student, profile.teacher)


def _shown(r: Any) -> list[Any]:
    return [r.image_id, r.bucket, r.key, r.etag]


def _read(c: Connection, pairs: Any, drawn: Drawn) -> list[Row[Any]]:
    """Return the images with both scores, in the order in which they were drawn."""
    by_id = {row.image_id: row for row in c.execute(pairs)}
    return [by_id[image_id] for image_id in drawn.image_ids if image_id in by_id]


def _compared(
    profile: str,
    names: tuple[str, str],
    directions: tuple[Direction, Direction],
    drawn: Drawn,
    rows: list[Row[Any]],
    options: Options,
) -> ScoreComparison:
    first, second = np.array([row.first_score for row in rows]), np.array([row.second_score for row in rows])
    placed = ranks(first, directions[0]), ranks(second, directions[1])
    cutoffs, decided = _decide((first, second), directions, (options.cutoff, options.second_cutoff))

    def images(indexes: np.ndarray) -> list[ComparedImage]:
        return [_image(rows[i], placed[0][i], placed[1][i]) for i in indexes[: options.n_examples]]

    def widest(mask: np.ndarray) -> np.ndarray:
        indexes = np.flatnonzero(mask)
        return indexes[np.argsort(-np.abs(placed[1][indexes] - placed[0][indexes]), kind="stable")]

    rose, fell = moved_most(*placed, options.n_examples)
    of_kind = {kind: getattr(decided, kind) for kind in ("both", "first_alone", "second_alone", "neither")}
    return ScoreComparison(
        profile=profile,
        first=names[0],
        second=names[1],
        first_direction=directions[0],
        second_direction=directions[1],
        population=drawn.population,
        n_sampled=len(drawn.image_ids),
        n=len(rows),
        correlation=rank_correlation(*placed),
        first_cutoff=cutoffs[0],
        second_cutoff=cutoffs[1],
        **{f"n_{kind}": int(mask.sum()) for kind, mask in of_kind.items()},
        points=[(row.first_score, row.second_score) for row in rows[:MAX_POINTS]],
        rose=images(rose),
        fell=images(fell),
        first_alone=images(widest(decided.first_alone)),
        second_alone=images(widest(decided.second_alone)),
    )


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


def _image(row: Row[Any], rank: float, other_rank: float) -> ComparedImage:
    return ComparedImage(
        bucket=row.bucket,
        key=row.key,
        etag=row.etag,
        first_score=row.first_score,
        second_score=row.second_score,
        first_rank=float(rank),
        second_rank=float(other_rank),
    )
