"""Scores: by bucket, prefix, range, profile, job, model; the worst or best share; all of one image."""

from dataclasses import replace
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from dpiqa.errors import InvalidRequest
from dpiqa.storage import scores as storage_scores
from dpiqa.storage.profiles import direction_of
from dpiqa.storage.references import ranges_of
from dpiqa.storage.scores import ScoreFilter, percentile
from dpiqa.types import Band, Direction, ResultStatus

from ..deps import Services, ServicesDep
from ..paging import CURSOR_HINT, link_next, pack, share_of, unpack
from ..schemas import Bucket, Cursor, ImageScores, Key, Limit, ModelName, Prefix, ProfileName, ScorePage

router = APIRouter(prefix="/v1/scores", tags=["scores"])

Bound = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[str, Field(pattern=r"^[0-9]{1,3}(\.[0-9]{1,6})?%?$", examples=["5%"])]


class Sort(StrEnum):
    """Orders that have an index."""

    LOWEST_FIRST = "score"
    HIGHEST_FIRST = "-score"
    OLDEST_FIRST = "updated"
    NEWEST_FIRST = "-updated"


class Asked(BaseModel):
    """The query of `GET /v1/scores`."""

    model_config = ConfigDict(extra="forbid")

    bucket: Bucket | None = None
    prefix: Prefix | None = None
    min: Bound | None = Field(None, description="Lowest score, itself included.")
    max: Bound | None = Field(None, description="Highest score, itself included.")
    profile: ProfileName | None = Field(None, description="Profile; the service's own unless given.")
    job: UUID | None = Field(None, description="Only results that this job made.")
    model: ModelName | None = Field(
        None, description="Only scores of this scorer, or of any version of the model of this name."
    )
    status: ResultStatus | None = None
    band: Annotated[list[Band] | None, Field(max_length=len(Band))] = Field(
        None,
        description="Only scores of this band; may be repeated. Scores of scorers without a reference are in none.",
    )
    sort: Sort | None = Field(
        None,
        description="`score`: lowest first; `-score`: highest first; `updated`, `-updated`: by time. Worst first "
        "unless given, which is highest first under a requirement whose scores are better the lower they are.",
    )
    worst: Share | None = Field(None, description="The worst share of what the other filters choose, e.g. `5%`.")
    best: Share | None = Field(None, description="The best share, likewise.")
    limit: Limit = 100
    cursor: Cursor | None = None


@router.get("", summary="Scores, worst first")
def scores(request: Request, response: Response, services: ServicesDep, asked: Annotated[Asked, Query()]) -> ScorePage:
    """List the scores that count. `worst` and `best` choose a share: the worst 5 % of a bucket, say.

    Each row's `scale` says what its score means, and which end of it is better.
    """
    threshold, cursor = unpack(asked.cursor) if asked.cursor else (None, None)
    chosen = _filter(asked, services)
    wanted = asked.worst or asked.best
    share = None if wanted is None else share_of(wanted)
    if cursor is not None and (threshold is None) != (share is None):
        raise InvalidRequest("the cursor belongs to another question", hint=CURSOR_HINT)
    with services.transaction() as connection:
        lowest = _wants_lowest(asked, direction_of(connection, str(chosen.profile)))
        if asked.band:
            chosen = replace(chosen, within=ranges_of(connection, str(chosen.profile), asked.band)[0])
        if share is not None and cursor is None:
            threshold = percentile(connection, chosen, share, descending=not lowest)
        narrowed = _narrow(chosen, threshold, lowest=lowest)
        page = storage_scores.scores(
            connection, narrowed, sort=_sort(asked, lowest=lowest), limit=asked.limit, cursor=cursor
        )
    next_cursor = pack(threshold, page.next_cursor)
    link_next(request, response, next_cursor)
    found = {"items": page.rows, "next_cursor": next_cursor, "threshold": threshold}
    return ScorePage.model_validate(found, from_attributes=True)


@router.get(
    "/lookup", summary="Every score of one image", responses={404: {"description": "No such image was ever announced."}}
)
def lookup(bucket: Annotated[Bucket, Query()], key: Annotated[Key, Query()], services: ServicesDep) -> ImageScores:
    """Tell everything known about one image: each model's score with its origin, and which score counts."""
    with services.transaction() as connection:
        found = storage_scores.lookup(connection, bucket, key)
    return ImageScores.model_validate(found, from_attributes=True)


def _filter(asked: Asked, services: Services) -> ScoreFilter:
    if asked.worst and asked.best:
        raise InvalidRequest("`worst` and `best` exclude each other", hint="ask for one, then for the other")
    if asked.min is not None and asked.max is not None and asked.min > asked.max:
        raise InvalidRequest("`min` is above `max`", hint="exchange them")
    return ScoreFilter(
        bucket=asked.bucket,
        prefix=asked.prefix,
        min=asked.min,
        max=asked.max,
        profile=services.profile_id(asked.profile),
        job=asked.job,
        model=asked.model,
        status=asked.status,
    )


def _wants_lowest(asked: Asked, direction: Direction) -> bool:
    """Whether the low end of the scale is wanted: the worst where higher is better, else the best."""
    return (asked.best is None) is (direction is Direction.HIGHER)


def _narrow(chosen: ScoreFilter, threshold: float | None, *, lowest: bool) -> ScoreFilter:
    """Leave the share. The threshold lies within `min` and `max`, because it was taken from what they leave."""
    if threshold is None:
        return chosen
    return replace(chosen, max=threshold) if lowest else replace(chosen, min=threshold)


def _sort(asked: Asked, *, lowest: bool) -> storage_scores.Sort:
    """Return the order asked for; without one, the wanted end comes first."""
    if asked.sort is not None:
        return asked.sort.value
    return "score" if lowest else "-score"
