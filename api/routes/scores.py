"""Scores: by bucket, prefix, range, profile, job, model; the worst or best share; all of one image."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from dpiqa.errors import NotFound
from dpiqa.exports.formats import Format
from dpiqa.exports.rows import score_batches
from dpiqa.exports.schemas import SCORES
from dpiqa.percentiles import parse_share
from dpiqa.storage import scores as stored
from dpiqa.storage.engine import transaction
from dpiqa.storage.score_query import ScoreQuery, find_profile
from dpiqa.storage.scores import ScoreFilter
from dpiqa.types import Band, ResultStatus, ScoreOrder

from ..dependencies import EngineDep, PageReplyDep, SettingsDep
from ..errors import as_invalid_request
from ..exports import RESPONSES, export_response
from ..schemas import (
    JOB_NAME,
    Bucket,
    Cursor,
    ImageScores,
    JobName,
    Key,
    Limit,
    ModelName,
    Prefix,
    ProfileName,
    ScorePage,
)

router = APIRouter(prefix="/v1/scores", tags=["scores"])

Bound = Annotated[float, Field(allow_inf_nan=False)]
ShareText = Annotated[str, Field(pattern=r"^[0-9]{1,3}(\.[0-9]{1,6})?%?$", examples=["5%"])]


class ScoreSelection(BaseModel):
    """The parameters that select scores, and their order."""

    model_config = ConfigDict(extra="forbid")

    bucket: Bucket | None = None
    prefix: Prefix | None = None
    min: Bound | None = Field(None, description="Minimum score (inclusive).")
    max: Bound | None = Field(None, description="Maximum score (inclusive).")
    profile: ProfileName | None = Field(None, description="Profile; the service's own unless given.")
    job: JobName | None = Field(None, description=f"Only images of this job, whichever job scored them. {JOB_NAME}")
    model: ModelName | None = Field(
        None, description="Only scores of this scorer, or of any version of the model of this name."
    )
    status: ResultStatus | None = None
    band: Annotated[list[Band] | None, Field(max_length=len(Band))] = Field(
        None,
        description="Only scores of this band; may be repeated. Scores of scorers without a reference are in none.",
    )
    sort: ScoreOrder | None = Field(
        None,
        description="`score`: lowest first; `-score`: highest first; `updated`, `-updated`: by time. Worst first "
        "unless given, which is highest first under a requirement whose scores are better the lower they are.",
    )
    worst: ShareText | None = Field(None, description="The worst share of what the other filters choose, e.g. `5%`.")
    best: ShareText | None = Field(None, description="The best share of the same, e.g. `5%`.")

    def query(self) -> ScoreQuery:
        """Return the query, still without a profile. Raises `InvalidRequest` for contradicting parameters."""
        conditions = ScoreFilter(
            bucket=self.bucket,
            prefix=self.prefix,
            min=self.min,
            max=self.max,
            model=self.model,
            status=self.status,
        )
        conditions.check_range()
        share = parse_share(self.worst, self.best)
        return ScoreQuery(conditions=conditions, bands=tuple(self.band or ()), share=share, order=self.sort)


class ScoreParameters(ScoreSelection):
    """The query of `GET /v1/scores`."""

    limit: Limit = 100
    cursor: Cursor | None = None


@router.get("", summary="Scores, worst first")
def scores(
    parameters: Annotated[ScoreParameters, Query()], settings: SettingsDep, engine: EngineDep, reply: PageReplyDep
) -> ScorePage:
    """List the scores that count. `worst` and `best` choose a share: e.g. the worst 5 % of a bucket.

    Each row's `scale` says what its score means, and which end of it is better.
    """
    query = parameters.query()
    with transaction(engine) as connection:
        with as_invalid_request(NotFound):
            profile = find_profile(connection, settings, parameters.profile)
        page = (
            query.of_job(connection, parameters.job)
            .under(profile)
            .page(connection, limit=parameters.limit, cursor=parameters.cursor)
        )
    return reply(ScorePage, page)


class ExportParameters(ScoreSelection):
    """The query of `GET /v1/scores/export`."""

    format: Format = Field(Format.CSV, description="Format of the rows.")


@router.get("/export", summary="All scores, as a file", response_class=StreamingResponse, responses=RESPONSES)
def export(
    parameters: Annotated[ExportParameters, Query()], settings: SettingsDep, engine: EngineDep
) -> StreamingResponse:
    """Stream all scores that the parameters select, of the schema `scores@1` (`docs/exports.md`).

    They are read page by page while they are sent: not a snapshot. A response that breaks off is not complete.
    """
    query = parameters.query()
    with transaction(engine) as connection:
        with as_invalid_request(NotFound):
            profile = find_profile(connection, settings, parameters.profile)
        resolved = query.under(profile).resolve(connection)
    return export_response(SCORES, parameters.format, score_batches(engine, resolved))


@router.get("/lookup", summary="Every score of one image", responses={404: {"description": "No such image is known."}})
def lookup(bucket: Annotated[Bucket, Query()], key: Annotated[Key, Query()], engine: EngineDep) -> ImageScores:
    """Show every score of one image with its origin, and the scores that count."""
    with transaction(engine) as connection:
        image = stored.lookup(connection, bucket, key)
    return ImageScores.model_validate(image)
