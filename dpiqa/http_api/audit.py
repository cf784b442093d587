"""Bodies of the audit."""

from datetime import datetime
from typing import Any

from pydantic import Field

from dpiqa.http_api.common import Page, ResponseBody
from dpiqa.types import AuditAction


class AuditEntryOut(ResponseBody):
    """Something that a user did."""

    id: int
    at: datetime
    actor: str = Field(
        description="Name of the key; `bootstrap`: DPIQA_API_KEY; `local`: without a key; `cli`: the command line."
    )
    key_id: str | None = Field(description="Id of a stored key.")
    account: str | None = Field(description="User and machine of the command line.")
    address: str | None = Field(description="Network address of the caller of the API.")
    request_id: str | None = Field(description="`X-Request-ID` of the request.")
    action: AuditAction
    subject: str = Field(description="Id or address of what it was done to.")
    detail: dict[str, Any] | None


class AuditEntryPage(Page[AuditEntryOut]):
    """Some entries."""
