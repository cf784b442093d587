"""Explanations: which regions of an image move its score, made by a worker when somebody asks."""

from typing import Annotated

from fastapi import APIRouter, Query
from sqlalchemy import Connection

from dpiqa.access import Caller
from dpiqa.doorbell import ring_explain
from dpiqa.errors import ConfigurationError, NotFound
from dpiqa.http_api.common import Bucket, Key, ProfileName
from dpiqa.http_api.explanations import STUDENT_OF, ExplanationAccepted, ExplanationOut, NewExplanation
from dpiqa.settings import Settings
from dpiqa.storage.engine import reading, transaction
from dpiqa.storage.explanations import read_explanation, request_explanation
from dpiqa.storage.score_query import find_profile
from dpiqa.types import ExplanationState

from ..dependencies import DoorbellDep, EngineDep, ReaderDep, SettingsDep, SubmitterDep
from ..errors import as_invalid_request

router = APIRouter(prefix="/v1/explanations", tags=["explanations"])


@router.post(
    "",
    operation_id="request_explanation",
    status_code=202,
    summary="Ask which regions of an image move its score",
    responses={404: {"description": "No version of the object is known."}},
)
def ask(
    caller: SubmitterDep, request: NewExplanation, settings: SettingsDep, engine: EngineDep, doorbell: DoorbellDep
) -> ExplanationAccepted:
    """Ask a worker for the effect of regions on the student's score: about as much work as 26 images.

    One that is there, or waits, is returned; one that failed is tried again. At most 20 wait at once, and each is kept
    for a week.
    """
    with transaction(engine) as connection:
        profile = _profile(connection, settings, request.profile, caller)
        explanation = request_explanation(connection, request.bucket, request.key, profile, caller.grants)
    waits = explanation.state is ExplanationState.PENDING
    warning = ring_explain(doorbell, explanation.id) if waits else None
    shown = ExplanationOut.of(explanation, request.bucket, request.key)
    return ExplanationAccepted(**shown.model_dump(), warning=warning)


@router.get(
    "",
    operation_id="get_explanation",
    summary="The regions of an image that move its score",
    responses={404: {"description": "Nobody asked for it in the last week."}},
)
def show(
    caller: ReaderDep,
    settings: SettingsDep,
    engine: EngineDep,
    bucket: Annotated[Bucket, Query()],
    key: Annotated[Key, Query()],
    profile: Annotated[ProfileName | None, Query(description=STUDENT_OF)] = None,
) -> ExplanationOut:
    """Show the explanation of the current version of an object."""
    with reading(engine) as connection:
        found = _profile(connection, settings, profile, caller)
        explanation = read_explanation(connection, bucket, key, found, caller.grants)
    if explanation is None:
        raise NotFound("nobody asked for this explanation", hint="POST /v1/explanations does")
    return ExplanationOut.of(explanation, bucket, key)


def _profile(connection: Connection, settings: Settings, name: str | None, caller: Caller) -> str:
    """Return the id of the profile that a request names, or of the settings' own."""
    with as_invalid_request(NotFound, ConfigurationError):
        return find_profile(connection, settings, name, grants=caller.grants)
