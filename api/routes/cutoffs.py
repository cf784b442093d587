"""Cut-offs: figures about one, random samples to label, two profiles side by side, and a profile with a cut-off."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from dpiqa.access import Grants
from dpiqa.errors import ConfigurationError, InvalidRequest, NotFound
from dpiqa.http_api.common import JOB_NAME, PROFILE, Bucket, JobName, Limit, Prefix, ProfileName, RequirementId
from dpiqa.http_api.cutoffs import ComparisonOut, LabelSet, NewProfile, SampleOut, SavedProfile, ThresholdOut
from dpiqa.profiles import Cutoff
from dpiqa.settings import Settings
from dpiqa.storage.comparisons import MAX_SAMPLE, Options, ScoreComparison, compare_models, compare_profiles
from dpiqa.storage.cutoffs import WANTED_PRECISION, report_cutoff
from dpiqa.storage.engine import reading, transaction
from dpiqa.storage.labels import Draw
from dpiqa.storage.samples import sample_scores
from dpiqa.storage.saved_profiles import find_named_profile, save_profile
from dpiqa.storage.score_filter import ScoreFilter
from dpiqa.storage.score_query import find_profile

from ..dependencies import EngineDep, ReaderDep, SettingsDep, SubmitterDep
from ..errors import as_invalid_request
from .scores import Bound, ScoreSelection

router = APIRouter(prefix="/v1", tags=["cut-offs"])

Seed = Annotated[int, Field(ge=0, le=2**31 - 1, description="The same seed draws the same images.")]


class ViewSelection(BaseModel):
    """The parameters that select the scores of a bucket, a prefix or a job under a profile, within a range."""

    model_config = ConfigDict(extra="forbid")

    bucket: Bucket | None = None
    prefix: Prefix | None = Field(
        None, description="Folder with its last slash, to a depth of 3, or a prefix of at most 20,000 results."
    )
    job: JobName | None = Field(None, description=f"Only images of this job. {JOB_NAME}")
    profile: ProfileName | None = Field(None, description=PROFILE)
    requirement: RequirementId | None = Field(None, description="A requirement instead of a profile.")
    min: Bound | None = Field(None, description="Minimum score.")
    max: Bound | None = Field(None, description="Maximum score.")

    def conditions(self, connection: Connection, settings: Settings, grants: Grants) -> ScoreFilter:
        """Return the filter within the grants, with its profile. Raises as `ScoreSelection.query`."""
        names = ViewSelection.model_fields.keys()
        selection = ScoreSelection(**{name: getattr(self, name) for name in names})
        return selection.query(connection, settings, grants).conditions


class ThresholdParameters(ViewSelection):
    """The query of `GET /v1/threshold`."""

    cutoff: Bound | None = Field(None, description="The cut-off; unless given, it rejects the worst tenth.")
    label_set: LabelSet = "default"
    precision: Annotated[float, Field(ge=0, le=1, description="For which a cut-off is wanted, 0-1.")] = WANTED_PRECISION


class SampleParameters(ViewSelection):
    """The query of `GET /v1/scores/sample`."""

    limit: Limit = 60
    seed: Seed = 0


class ComparisonParameters(ViewSelection):
    """The query of `GET /v1/comparison`."""

    second: ProfileName | None = Field(None, description="The profile to compare with `profile`.")
    teacher: bool = Field(
        default=False,
        description="Instead of two profiles, compare the student's scores under `profile` with the teacher's, of the "
        "images that both scored. Routing chose those, so they lie around its cut-offs.",
    )
    cutoff: Bound | None = Field(
        None, description="Of the first scores; unless given, it rejects the worst tenth of the compared images."
    )
    second_cutoff: Bound | None = Field(None, description="Unless given, it rejects as many as `cutoff`.")
    sample: Annotated[int, Field(ge=2, le=MAX_SAMPLE, description="Images to compare, at most.")] = MAX_SAMPLE
    seed: Seed = 0

    def compare(self, connection: Connection, settings: Settings, grants: Grants) -> ScoreComparison:
        """Return the comparison. Raises `InvalidRequest`; as `conditions`, `compare_profiles` and `compare_models`."""
        options = Options(cutoff=self.cutoff, second_cutoff=self.second_cutoff, sample=self.sample, seed=self.seed)
        if self.teacher is (self.second is not None):
            raise InvalidRequest("a comparison has two sides", hint="give either `second` or `teacher=true`")
        conditions = self.conditions(connection, settings, grants)
        if self.second is None:
            return compare_models(connection, conditions, options)
        with as_invalid_request(NotFound, ConfigurationError):
            second = find_profile(connection, settings, self.second, grants=grants)
        return compare_profiles(connection, conditions, second, options)


@router.get("/threshold", operation_id="get_threshold", summary="A cut-off: share rejected, precision and recall")
def threshold(
    caller: ReaderDep, parameters: Annotated[ThresholdParameters, Query()], settings: SettingsDep, engine: EngineDep
) -> ThresholdOut:
    """Say what a cut-off rejects, and how well by people's labels: from 30 labels on.

    Labels of images that were chosen by their score, such as those around a cut-off, are not a random sample: figures
    are of the labels whose `draw` covers the selected scores if there are 30, and `is_random` says so.
    """
    with reading(engine) as connection:
        conditions = parameters.conditions(connection, settings, caller.grants)
        report = report_cutoff(
            connection, conditions, parameters.label_set, cutoff=parameters.cutoff, precision=parameters.precision
        )
    return ThresholdOut.model_validate(report)


@router.get("/scores/sample", operation_id="sample_scores", summary="Scores drawn at random")
def sample(
    caller: ReaderDep, parameters: Annotated[SampleParameters, Query()], settings: SettingsDep, engine: EngineDep
) -> SampleOut:
    """Draw scores at random, without repetition, in random order.

    A prefix or job that is a small part of a large bucket may give fewer than `limit`.
    """
    with reading(engine) as connection:
        conditions = parameters.conditions(connection, settings, caller.grants)
        drawn = sample_scores(connection, conditions, parameters.limit, seed=parameters.seed)
    values = {"items": drawn.rows, "population": drawn.population, "draw": Draw.of(conditions)}
    return SampleOut.model_validate(values, from_attributes=True)


@router.get("/comparison", operation_id="compare_profiles", summary="Two profiles, or two models, on the same images")
def comparison(
    caller: ReaderDep, parameters: Annotated[ComparisonParameters, Query()], settings: SettingsDep, engine: EngineDep
) -> ComparisonOut:
    """Compare two profiles, or student and teacher of one: rank correlation, images that moved most, decisions.

    All figures are of a random sample, which is all images where there are at most `sample` of them.
    """
    with reading(engine) as connection:
        found = parameters.compare(connection, settings, caller.grants)
    return ComparisonOut.model_validate(asdict(found))


@router.post(
    "/profiles",
    operation_id="save_profile",
    status_code=201,
    summary="Save a cut-off as a profile",
    responses={
        404: {"description": "There is no such profile to take the models from."},
        409: {"description": "Another request saved the same version."},
    },
)
def save(caller: SubmitterDep, request: NewProfile, settings: SettingsDep, engine: EngineDep) -> SavedProfile:
    """Store the models of a profile with a cut-off of its own, as the next version of a name, for the next jobs.

    The same profile again gives the version that it has. Workers read it from the database: it needs no file.
    """
    with transaction(engine) as connection:
        base = find_named_profile(
            connection, request.base, settings.profiles_dir, grants=caller.grants, client=caller.client
        )
        profile = save_profile(
            connection,
            request.name,
            base,
            Cutoff(at=request.cutoff, margin=request.margin),
            description=request.description,
            profiles_dir=settings.profiles_dir,
            client=caller.client,
        )
    return SavedProfile(id=profile.id, definition=profile.model_dump(mode="json"))
