"""Requirements: submit, list, show. A worker reads and checks the pairs: this process has no models."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from dpiqa.doorbell import ring_prepare
from dpiqa.http_api.common import Cursor, Limit, RequirementId
from dpiqa.http_api.requirements import NewRequirement, RequirementAccepted, RequirementDetail, RequirementPage
from dpiqa.storage.engine import transaction
from dpiqa.storage.requirement_queries import list_requirements, show_requirement
from dpiqa.storage.requirements import submit_requirement
from dpiqa.types import RequirementState

from ..dependencies import DoorbellDep, EngineDep, PageReplyDep, ReaderDep, SubmitterDep
from ..manners import REVALIDATED

router = APIRouter(prefix="/v1/requirements", tags=["requirements"])


@router.post("", operation_id="submit_requirement", status_code=202, summary="Submit a requirement")
def submit(
    caller: SubmitterDep, submission: NewRequirement, response: Response, engine: EngineDep, doorbell: DoorbellDep
) -> RequirementAccepted:
    """Submit image-score pairs as the next version of a name. Follow it at the `Location`: `pending`, then `ready`.

    The same request again gives the same version, unless that was `refused`.
    """
    request = submission.request()
    with transaction(engine) as connection:
        requirement = submit_requirement(connection, request, caller.grants)
        detail = show_requirement(connection, requirement.id, caller.grants)
    waits = requirement.state is RequirementState.PENDING
    warning = ring_prepare(doorbell, requirement.row_id) if waits else None
    response.headers["Location"] = f"/v1/requirements/{requirement.id}"
    return RequirementAccepted.model_validate(detail).model_copy(update={"warning": warning})


@router.get("", operation_id="list_requirements", summary="List requirements by name", response_model=RequirementPage)
def list_all(
    caller: ReaderDep, engine: EngineDep, reply: PageReplyDep, limit: Limit = 100, cursor: Cursor | None = None
) -> Response:
    """List all versions of all requirements, with the direction of their scores."""
    with transaction(engine) as connection:
        page = list_requirements(connection, grants=caller.grants, limit=limit, cursor=cursor)
    return reply(RequirementPage, page)


@router.get(
    "/{requirement}",
    operation_id="get_requirement",
    summary="One requirement and its pairs",
    responses={404: {"description": "No such requirement."}},
)
def show(
    caller: ReaderDep, requirement: Annotated[RequirementId, Path()], engine: EngineDep, response: Response
) -> RequirementDetail:
    """Show a requirement: state, direction, stability, and the score of each pair predicted from the others."""
    with transaction(engine) as connection:
        detail = show_requirement(connection, requirement, caller.grants)
    if detail.state is not RequirementState.PENDING:
        response.headers["Cache-Control"] = REVALIDATED
    return RequirementDetail.model_validate(detail)
