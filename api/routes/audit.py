"""The audit: who did what. `dpiqa audit` shows the same."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from dpiqa.http_api.audit import AuditEntryPage
from dpiqa.http_api.common import Cursor, Limit, Storable, Time
from dpiqa.storage.audit import AuditFilter, list_audit
from dpiqa.storage.engine import reading
from dpiqa.types import AuditAction

from ..dependencies import EngineDep, PageReplyDep, get_administrator

router = APIRouter(prefix="/v1/audit", tags=["audit"], dependencies=[Depends(get_administrator)])

Text = Annotated[str, Field(min_length=1, max_length=1300), Storable]


class AuditParameters(BaseModel):
    """The query of `GET /v1/audit`."""

    model_config = ConfigDict(extra="forbid")

    since: Time | None = Field(None, description="Only entries of this time or later.")
    until: Time | None = Field(None, description="Only earlier entries.")
    actor: Text | None = Field(None, description="Name or id of a key; or cli, local, bootstrap.")
    action: AuditAction | None = None
    subject: Text | None = Field(None, description="Its beginning: of the id of a job or key, or of an address.")
    limit: Limit = 100
    cursor: Cursor | None = None


@router.get("", operation_id="list_audit", summary="Who did what, newest first", response_model=AuditEntryPage)
def list_all(parameters: Annotated[AuditParameters, Query()], engine: EngineDep, reply: PageReplyDep) -> Response:
    """List submissions, cancellations, deletions, exports, and changes of keys and watches. Scope `admin`."""
    chosen = AuditFilter(
        since=parameters.since,
        until=parameters.until,
        actor=parameters.actor,
        action=parameters.action,
        subject=parameters.subject,
    )
    with reading(engine) as connection:
        page = list_audit(connection, chosen, limit=parameters.limit, cursor=parameters.cursor)
    return reply(AuditEntryPage, page)
