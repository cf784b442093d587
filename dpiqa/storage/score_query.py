"""One description of a query for scores, resolved alike for the API, the command line and exports."""

import math
from dataclasses import dataclass, replace
from uuid import UUID

from sqlalchemy import Connection

from dpiqa.access import EVERYTHING, Grants
from dpiqa.percentiles import Share
from dpiqa.profiles import load_profile
from dpiqa.settings import Settings
from dpiqa.storage.jobs import read_job
from dpiqa.storage.pages import Page, foreign_cursor, malformed_cursor, pack, unpack
from dpiqa.storage.profiles import direction_of, profile_for
from dpiqa.storage.references import ranges_of
from dpiqa.storage.saved_profiles import find_named_profile
from dpiqa.storage.score_filter import ScoreFilter
from dpiqa.storage.scores import ScoreRow, list_scores
from dpiqa.storage.stats import threshold as threshold_of
from dpiqa.types import Band, Direction, ScoreOrder


def find_profile(
    c: Connection,
    settings: Settings,
    name: str | None,
    *,
    requirement: str | None = None,
    job: UUID | None = None,
    grants: Grants = EVERYTHING,
) -> str:
    """Return the id of a profile: the named one, else the requirement's, else the job's, else the settings' own.

    A name with a version is not looked up: scores outlive the files of their profiles. Raises `NotFound`.
    """
    if name is not None and "@" in name:
        return name
    if name is None and requirement is not None:
        return profile_for(c, requirement, grants).id
    if name is None and job is not None:
        return read_job(c, job, grants).profile
    if name is None:
        return load_profile(settings.profile, settings.profiles_dir).id
    return find_named_profile(c, name, settings.profiles_dir, grants=grants).id


@dataclass(frozen=True, slots=True)
class ScorePage(Page[ScoreRow]):
    """A page of scores."""

    threshold: float | None = None  #: the score at the share; None: no share was asked for, or nothing fits


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedQuery:
    """A query whose bands and share are bounds on the score: its pages do not shift when scores arrive."""

    conditions: ScoreFilter
    order: ScoreOrder
    direction: Direction  #: which end of the profile's scores is better
    lowest: bool  #: whether the end that was asked for is the low one
    threshold: float | None  #: the score at the share
    without_bands: tuple[str, ...]  #: scorers that are left out, because they have no reference

    def page(self, c: Connection, *, limit: int, cursor: str | None = None) -> Page[ScoreRow]:
        """Return a page after `cursor`, which is one of this method. Raises as `list_scores`."""
        return list_scores(c, self.conditions, order=self.order, limit=limit, cursor=cursor)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreQuery:
    """A query for the scores that count: conditions, bands, a share and an order."""

    conditions: ScoreFilter  #: with a profile before the query is resolved
    bands: tuple[Band, ...] = ()  #: any of these; none: all, and scores without a band too
    share: Share | None = None  #: of what conditions and bands leave
    order: ScoreOrder | None = None  #: None: the end that `share` names first; without a share, the worst first

    def under(self, profile: str) -> "ScoreQuery":
        """Return the same query for the scores of another profile."""
        return replace(self, conditions=self.conditions.under(profile))

    def of_job(self, c: Connection, name: str | None, grants: Grants = EVERYTHING) -> "ScoreQuery":
        """Return the same query for the images of a job, if one is named, and within the grants.

        Raises as `read_job` and `Grants.narrow`.
        """
        conditions = self.conditions
        if name is not None:
            conditions = replace(conditions, job=read_job(c, name, grants).id)
        return replace(self, conditions=conditions.narrowed(grants))

    def resolve(self, c: Connection, threshold: float | None = None) -> ResolvedQuery:
        """Turn bands and share into bounds on the score. `threshold`: of the same query before; None: read it now.

        Raises `InvalidRequest` where bands are asked for and no scorer of the profile has a reference.
        """
        conditions = self.conditions
        without: tuple[str, ...] = ()
        if conditions.profile is None:
            raise ValueError("a score query needs a profile")
        direction = direction_of(c, conditions.profile)
        # The worst scores are the lowest where higher is better; the best ones where lower is.
        lowest = (self.share is None or self.share.worst) is (direction is Direction.HIGHER)
        if self.bands:
            ranges, without = ranges_of(c, conditions.profile, self.bands)
            conditions = replace(conditions, within=ranges)
        if self.share is not None and threshold is None:
            threshold = threshold_of(c, conditions, self.share.percent / 100, descending=not lowest)
        if threshold is not None:  # it lies within `min` and `max`, because it was taken from what they leave
            conditions = replace(conditions, max=threshold) if lowest else replace(conditions, min=threshold)
        return ResolvedQuery(
            conditions=conditions,
            order=self.order or (ScoreOrder.LOWEST_FIRST if lowest else ScoreOrder.HIGHEST_FIRST),
            direction=direction,
            lowest=lowest,
            threshold=threshold,
            without_bands=without,
        )

    def page(self, c: Connection, *, limit: int, cursor: str | None = None) -> ScorePage:
        """Resolve the query and return a page of it.

        Cursors carry the threshold of the first page: later pages must not shift with new scores.
        Raises `InvalidRequest` as `resolve`, and for a cursor of another query or a limit outside 1-1000.
        """
        threshold, position = (None, None) if cursor is None else _unpack(cursor)
        if cursor is not None and (threshold is None) != (self.share is None):
            raise foreign_cursor()
        resolved = self.resolve(c, threshold)
        page = resolved.page(c, limit=limit, cursor=position)
        next_cursor = None if page.next_cursor is None else pack([resolved.threshold, page.next_cursor])
        return ScorePage(page.items, next_cursor, page.partial, resolved.threshold)


def _unpack(cursor: str) -> tuple[float | None, str]:
    """Return the threshold and the cursor of `list_scores`. Raises `InvalidRequest` for any other text."""
    try:
        threshold, position = unpack(cursor)
    except (ValueError, TypeError):
        raise malformed_cursor() from None
    finite = isinstance(threshold, float) and math.isfinite(threshold)
    if not isinstance(position, str) or not (threshold is None or finite):
        raise malformed_cursor()
    return threshold, position
