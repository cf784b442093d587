"""Scores: by bucket, prefix, range, profile, job, model; the worst or best share; all of one image."""

from dataclasses import replace
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from dpiqa.errors import InvalidRequest
from dpiqa.storage import queries
from dpiqa.types import ResultStatus

from ..deps import Services, ServicesDep
from ..paging import CURSOR_CURE, link_next, pack, share_of, unpack
from ..schemas import Bucket, Cursor, ImageScores, Key, Limit, ModelName, Prefix, ProfileName, ScorePage

router = APIRouter(prefix="/v1/scores", tags=["scores"])

Bound = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[str, Field(pattern=r"^[0-9]{1,3}(\.[0-9]{1,6})?%?$", examples=["5%"])]


class Sort(StrEnum):
    """Orders that have an index."""

    WORST_FIRST = "score"
    BEST_FIRST = "-score"
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
    sort: Sort | None = Field(
        None, description="`score`: worst first, the default; `-score`: best first; `updated`, `-updated`: by time."
    )
    worst: Share | None = Field(None, description="The worst share of what the other filters choose, e.g. `5%`.")
    best: Share | None = Field(None, description="The best share, likewise.")
    limit: Limit = 100
    cursor: Cursor | None = None


@router.get("", summary="Scores, worst first")
def scores(request: Request, response: Response, services: ServicesDep, asked: Annotated[Asked, Query()]) -> ScorePage:
    """List the scores that count. `worst` and `best` choose a share: the worst 5 % of a bucket, say."""
    threshold, cursor = unpack(asked.cursor) if asked.cursor else (None, None)
    chosen = _filter(asked, services)
    quantile = _quantile(asked)
    if cursor is not None and (threshold is None) != (quantile is None):
        raise InvalidRequest("the cursor belongs to another question", cure=CURSOR_CURE)
    with services.transaction() as connection:
        if quantile is not None and cursor is None:
            threshold = queries.percentile(connection, chosen, quantile)
        page = queries.scores(
            connection, _narrow(chosen, asked, threshold), sort=_sort(asked), limit=asked.limit, cursor=cursor
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
        found = queries.lookup(connection, bucket, key)
    return ImageScores.model_validate(found, from_attributes=True)


def _filter(asked: Asked, services: Services) -> queries.ScoreFilter:
    if asked.worst and asked.best:
        raise InvalidRequest("`worst` and `best` exclude each other", cure="ask for one, then for the other")
    if asked.min is not None and asked.max is not None and asked.min > asked.max:
        raise InvalidRequest("`min` is above `max`", cure="exchange them")
    return queries.ScoreFilter(
        bucket=asked.bucket,
        prefix=asked.prefix,
        min=asked.min,
        max=asked.max,
        profile=services.profile_id(asked.profile),
        job=asked.job,
        model=asked.model,
        status=asked.status,
    )


def _quantile(asked: Asked) -> float | None:
    if asked.worst:
        return share_of(asked.worst)
    return 1 - share_of(asked.best) if asked.best else None


def _narrow(chosen: queries.ScoreFilter, asked: Asked, threshold: float | None) -> queries.ScoreFilter:
    """Leave the share. The threshold lies within `min` and `max`, because it was taken from what they leave."""
    if threshold is None:
        return chosen
    return replace(chosen, max=threshold) if asked.worst else replace(chosen, min=threshold)


def _sort(asked: Asked) -> queries.Sort:
    """Return the order asked for; a share begins at its far end unless asked otherwise."""
    if asked.sort is not None:
        return asked.sort.value
    return "-score" if asked.best else "score"
