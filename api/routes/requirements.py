"""Requirements: submit, list, show. A worker reads and checks the pairs: this process has no models."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from sqlalchemy import Connection

from dpiqa.doorbell import ring_prepare
from dpiqa.requirement import RequirementRequest
from dpiqa.storage.requirement_queries import RequirementRow, list_requirements, show_requirement
from dpiqa.storage.requirements import add_requirement, lock_requirement, same_request
from dpiqa.types import RequirementState

from ..deps import ServicesDep
from ..paging import link_next
from ..requirement_schemas import NewRequirement, RequirementAccepted, RequirementDetail, RequirementOut
from ..schemas import Cursor, Limit, Page, RequirementId

router = APIRouter(prefix="/v1/requirements", tags=["requirements"])


@router.post("", status_code=202, summary="Submit a requirement")
def submit(wanted: NewRequirement, services: ServicesDep, response: Response) -> RequirementAccepted:
    """Submit image-score pairs as the next version of a name. Follow it at the `Location`: `pending`, then `ready`.

    The same request again gives the same version, unless that was `refused`.
    """
    with services.transaction() as connection:
        row = _create(connection, wanted.request())
    waits = row.requirement.state is RequirementState.PENDING
    warning = ring_prepare(services.doorbell, row.requirement.row_id) if waits else None
    response.headers["Location"] = f"/v1/requirements/{row.requirement.id}"
    return RequirementAccepted(**RequirementOut.of(row).model_dump(), warning=warning)


def _create(connection: Connection, wanted: RequirementRequest) -> RequirementRow:
    lock_requirement(connection, wanted.name)
    made = same_request(connection, wanted.name, wanted.hash) or add_requirement(connection, wanted)
    row, _ = show_requirement(connection, made.id)
    return row


@router.get("", summary="List requirements by name")
def list_all(
    request: Request, response: Response, services: ServicesDep, limit: Limit = 100, cursor: Cursor | None = None
) -> Page[RequirementOut]:
    """List all versions of all requirements, with the direction of their scores."""
    with services.transaction() as connection:
        page = list_requirements(connection, limit=limit, cursor=cursor)
    link_next(request, response, page.next_cursor)
    return Page[RequirementOut](items=[RequirementOut.of(row) for row in page.items], next_cursor=page.next_cursor)


@router.get(
    "/{requirement}", summary="One requirement and its pairs", responses={404: {"description": "No such requirement."}}
)
def show(requirement: Annotated[RequirementId, Path()], services: ServicesDep) -> RequirementDetail:
    """Say how a requirement stands: state, direction, stability, and what the other pairs say of each pair."""
    with services.transaction() as connection:
        row, pairs = show_requirement(connection, requirement)
    return RequirementDetail.with_pairs(row, pairs)
