"""Scores: by bucket, prefix, range, profile, job, model; the worst or best share; all of one image."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from dpiqa.access import Grants
from dpiqa.errors import ConfigurationError, InvalidRequest, NotFound
from dpiqa.exports.formats import Format
from dpiqa.exports.rows import note_export, score_batches
from dpiqa.exports.schemas import SCORES
from dpiqa.http_api.common import (
    JOB_NAME,
    PROFILE,
    Bucket,
    Cursor,
    JobName,
    Key,
    Limit,
    ModelName,
    Prefix,
    ProfileName,
    RequirementId,
    Suffix,
    Time,
)
from dpiqa.http_api.scores import ImageScores, ScorePage
from dpiqa.percentiles import parse_share
from dpiqa.settings import Settings
from dpiqa.storage.engine import reading
from dpiqa.storage.lookups import lookup as look_up
from dpiqa.storage.score_filter import ScoreFilter
from dpiqa.storage.score_query import ScoreQuery, find_profile
from dpiqa.types import Band, ResultStatus, Route, ScoreOrder

from ..dependencies import EngineDep, PageReplyDep, ReaderDep, SettingsDep
from ..errors import as_invalid_request
from ..exports import RESPONSES, export_response

router = APIRouter(prefix="/v1/scores", tags=["scores"])

Bound = Annotated[float, Field(allow_inf_nan=False)]
ShareText = Annotated[str, Field(pattern=r"^[0-9]{1,3}(\.[0-9]{1,6})?%?$", examples=["5%"])]


class ScoreSelection(BaseModel):
    """The parameters that select scores, and their order."""

    model_config = ConfigDict(extra="forbid")

    bucket: Bucket | None = None
    prefix: Prefix | None = Field(None, description="Keys that begin with this; needs a bucket or a job.")
    suffix: Suffix | None = None
    min: Bound | None = Field(None, description="Minimum score (inclusive).")
    max: Bound | None = Field(None, description="Maximum score (inclusive).")
    profile: ProfileName | None = Field(None, description=PROFILE)
    requirement: RequirementId | None = Field(
        None, description="Only scores of jobs submitted with this requirement, instead of a profile."
    )
    since: Time | None = Field(None, description="Only scores that were made or changed at this time or later.")
    until: Time | None = Field(None, description="Only scores that were made or last changed before this time.")
    job: JobName | None = Field(None, description=f"Only images of this job, whichever job scored them. {JOB_NAME}")
    model: ModelName | None = Field(
        None, description="Only scores of this scorer, or of any version of the model of this name."
    )
    status: ResultStatus | None = None
    route: Route | None = Field(None, description="Only images that were, or were not, sent to the teacher for this.")
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

    def query(self, connection: Connection, settings: Settings, grants: Grants) -> ScoreQuery:
        """Return the query within the grants.

        Raises `InvalidRequest` for contradicting parameters and unknown names; as `Grants.narrow`.
        """
        conditions = ScoreFilter(
            bucket=self.bucket,
            prefix=self.prefix,
            min=self.min,
            max=self.max,
            model=self.model,
            status=self.status,
            suffix=self.suffix,
            since=self.since,
            until=self.until,
            route=self.route,
        )
        conditions.check(of_job=self.job is not None)
        if self.profile is not None and self.requirement is not None:
            raise InvalidRequest("`profile` and `requirement` cannot be combined", hint="give only one")
        share = parse_share(self.worst, self.best)
        query = ScoreQuery(conditions=conditions, bands=tuple(self.band or ()), share=share, order=self.sort)
        query = query.of_job(connection, self.job, grants)
        with as_invalid_request(NotFound, ConfigurationError):
            profile = find_profile(
                connection,
                settings,
                self.profile,
                requirement=self.requirement,
                job=query.conditions.job,
                grants=grants,
            )
        return query.under(profile)


class ScoreParameters(ScoreSelection):
    """The query of `GET /v1/scores`."""

    limit: Limit = 100
    cursor: Cursor | None = None


@router.get("", operation_id="list_scores", summary="Scores, worst first", response_model=ScorePage)
def scores(
    caller: ReaderDep,
    parameters: Annotated[ScoreParameters, Query()],
    settings: SettingsDep,
    engine: EngineDep,
    reply: PageReplyDep,
) -> Response:
    """List the scores that count. `worst` and `best` choose a share: e.g. the worst 5 % of a bucket.

    A page that has to check many rows may end early (`partial`); follow `next_cursor` until it is null.

    Each row's `scale` says what its score means, and which end of it is better.
    """
    with reading(engine) as connection:
        query = parameters.query(connection, settings, caller.grants)
        page = query.page(connection, limit=parameters.limit, cursor=parameters.cursor)
    return reply(ScorePage, page)


class ExportParameters(ScoreSelection):
    """The query of `GET /v1/scores/export`."""

    format: Format = Field(Format.CSV, description="Format of the rows.")
    details: bool = Field(default=False, description="Also the measures of the pictures, where a job asked for them.")


@router.get(
    "/export",
    operation_id="export_scores",
    summary="All scores, as a file",
    response_class=StreamingResponse,
    responses=RESPONSES,
)
def export(
    caller: ReaderDep, parameters: Annotated[ExportParameters, Query()], settings: SettingsDep, engine: EngineDep
) -> StreamingResponse:
    """Stream all scores that the parameters select, of the schema `scores@1` (`docs/exports.md`).

    They are read page by page while they are sent: not a snapshot. A response that breaks off is not complete.
    """
    with reading(engine) as connection:
        resolved = parameters.query(connection, settings, caller.grants).resolve(connection)
    schema = SCORES.with_details() if parameters.details else SCORES
    note_export(engine, schema, resolved.conditions, format=parameters.format)
    return export_response(schema, parameters.format, score_batches(engine, resolved, schema=schema))


@router.get(
    "/lookup",
    operation_id="lookup_image",
    summary="Every score of one image",
    responses={404: {"description": "No such image is known."}},
)
def lookup(
    caller: ReaderDep, bucket: Annotated[Bucket, Query()], key: Annotated[Key, Query()], engine: EngineDep
) -> ImageScores:
    """Show every score of one image with its origin, the scores that count, and why it was not scored."""
    with reading(engine) as connection:
        image = look_up(connection, bucket, key, caller.grants)
    return ImageScores.model_validate(image)
