"""Statistics of scores, and what they were made by: models, profiles, workers."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from dpiqa.errors import ConfigurationError, InvalidRequest, NotFound
from dpiqa.http_api.common import (
    JOB_NAME,
    PROFILE,
    Bucket,
    JobName,
    ModelName,
    Prefix,
    ProfileName,
    RequirementId,
    Time,
)
from dpiqa.http_api.stats import Profiles, ScorerCard, Scorers, StatsOut, Workers
from dpiqa.storage.engine import reading
from dpiqa.storage.score_filter import ScoreFilter
from dpiqa.storage.score_query import ScoreQuery, find_profile
from dpiqa.storage.scorers import list_scorers, list_used_profiles, read_card
from dpiqa.storage.stats import read_stats
from dpiqa.storage.workers import live_workers
from dpiqa.types import GroupBy, ResultStatus, Route

from ..dependencies import EngineDep, ReaderDep, SettingsDep
from ..errors import as_invalid_request
from ..manners import REVALIDATED
from .scores import Bound

router = APIRouter(prefix="/v1", tags=["statistics"])


class StatsParameters(BaseModel):
    """The query of `GET /v1/stats`."""

    model_config = ConfigDict(extra="forbid")

    bucket: Bucket | None = None
    prefix: Prefix | None = Field(
        None, description="Folder with its last slash, to a depth of 3, or a prefix of at most 20,000 results."
    )
    profile: ProfileName | None = Field(None, description=PROFILE)
    requirement: RequirementId | None = Field(None, description="A requirement instead of a profile.")
    job: JobName | None = Field(None, description=f"Only images of this job. {JOB_NAME}")
    model: ModelName | None = Field(None, description="Only scores of this scorer, or of the model of this name.")
    since: Time | None = Field(None, description="From this day (UTC) on, as `2026-05-17T00:00Z`.")
    until: Time | None = Field(None, description="Before this day (UTC).")
    min: Bound | None = Field(None, description="Minimum score.")
    max: Bound | None = Field(None, description="Maximum score.")
    status: ResultStatus | None = None
    route: Route | None = None
    group_by: GroupBy | None = Field(
        None,
        description="Also by this property; `prefix`: the folders below `prefix`; `state` and `reason`: the items of "
        "`job`.",
    )
    step: Annotated[float, Field(ge=0.001, le=1, description="Width of a bar of the histogram, in thousandths.")] = 0.05

    def conditions(self) -> ScoreFilter:
        """Return the filter, still without a profile. Raises `InvalidRequest` for contradicting parameters."""
        conditions = ScoreFilter(
            bucket=self.bucket,
            prefix=self.prefix,
            model=self.model,
            since=self.since,
            until=self.until,
            min=self.min,
            max=self.max,
            status=self.status,
            route=self.route,
        )
        conditions.check(of_job=self.job is not None)
        if self.profile is not None and self.requirement is not None:
            raise InvalidRequest("`profile` and `requirement` cannot be combined", hint="give only one")
        return conditions


@router.get("/stats", operation_id="get_stats", summary="Counts, quantiles and histogram of scores")
def stats(
    caller: ReaderDep, parameters: Annotated[StatsParameters, Query()], settings: SettingsDep, engine: EngineDep
) -> StatsOut:
    """Count the scores that count: by bucket, folder, job, day, model and more. Takes the same time at any size.

    What the roll-ups do not count together is counted row by row up to 20,000 results, and refused beyond.
    """
    conditions = parameters.conditions()
    with reading(engine) as connection:
        query, profile = ScoreQuery(conditions=conditions).of_job(connection, parameters.job, caller.grants), None
        if parameters.group_by is not GroupBy.PROFILE:
            with as_invalid_request(NotFound, ConfigurationError):
                profile = find_profile(
                    connection,
                    settings,
                    parameters.profile,
                    requirement=parameters.requirement,
                    job=query.conditions.job,
                    grants=caller.grants,
                )
        conditions = query.conditions.under(profile)
        found = read_stats(connection, conditions, group_by=parameters.group_by, step=parameters.step)
    return StatsOut.model_validate({"profile": profile, **asdict(found)})


@router.get("/models", operation_id="list_scorers", summary="Scorers that have scored")
def models(caller: ReaderDep, engine: EngineDep) -> Scorers:
    """List the scorers that have scored, the newest first; for a limited key, in its buckets and prefixes."""
    with reading(engine) as connection:
        return Scorers.model_validate({"items": list_scorers(connection, caller.grants)})


@router.get(
    "/models/{scorer_id}",
    operation_id="get_scorer",
    summary="A scorer's model card",
    responses={404: {"description": "It has not scored."}},
)
def model(
    caller: ReaderDep, scorer_id: Annotated[ModelName, Path()], engine: EngineDep, response: Response
) -> ScorerCard:
    """Show the model card of a scorer: kind, preprocessing, licence, figures, references.

    The beginning of an id is enough where no other begins so, as the name of a model that scored with one set of
    weights.
    """
    response.headers["Cache-Control"] = REVALIDATED
    with reading(engine) as connection:
        found, card = read_card(connection, scorer_id, caller.grants)
    return ScorerCard(id=found, card=card)


@router.get("/profiles", operation_id="list_profiles", summary="Profiles that jobs used")
def profiles(caller: ReaderDep, engine: EngineDep) -> Profiles:
    """List the profiles that jobs used, the newest first; for a limited key, those with results of its own."""
    with reading(engine) as connection:
        return Profiles.model_validate({"items": list_used_profiles(connection, caller.grants)})


@router.get("/workers", operation_id="list_workers", summary="Live workers")
def workers(caller: ReaderDep, engine: EngineDep) -> Workers:
    """List the workers whose last heartbeat is at most a minute old. Not for limited keys."""
    caller.grants.require_all("workers")
    with reading(engine) as connection:
        return Workers.model_validate({"items": live_workers(connection)})
