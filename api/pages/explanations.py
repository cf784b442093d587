"""Explanations on the page of one image: which regions move its score, made by a worker when somebody asks."""

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from dpiqa.doorbell import ring_explain
from dpiqa.errors import DpiqaError
from dpiqa.http_api.common import Bucket, Key, ProfileName
from dpiqa.storage.engine import reading, transaction
from dpiqa.storage.explanations import Explanation, read_explanation, request_explanation
from dpiqa.types import ExplanationState

from ..dependencies import DoorbellDep, EngineDep, ReaderDep, SubmitterDep
from .rendering import PageRoute, error_text, query_of, render

router = APIRouter(prefix="/image/regions", route_class=PageRoute, include_in_schema=False)

_TEMPLATE = "image_regions.html"


@router.get("")
def show(
    request: Request,
    caller: ReaderDep,
    engine: EngineDep,
    bucket: Annotated[Bucket, Query()],
    key: Annotated[Key, Query()],
    profile: Annotated[ProfileName, Query()],
) -> HTMLResponse:
    """Show what there is of an explanation, as a part of the page, for htmx."""
    with reading(engine) as c:
        found = read_explanation(c, bucket, key, profile, caller.grants)
    return _part(request, bucket, key, profile, found)


@router.post("")
def ask(
    request: Request,
    caller: SubmitterDep,
    engine: EngineDep,
    doorbell: DoorbellDep,
    bucket: Annotated[Bucket, Form()],
    key: Annotated[Key, Form()],
    profile: Annotated[ProfileName, Form()],
) -> Response:
    """Ask a worker for an explanation by the student of a profile, unless there is one."""
    is_part = "hx-request" in request.headers
    try:
        with transaction(engine) as c:
            explanation = request_explanation(c, bucket, key, profile, caller.grants)
    except DpiqaError as error:
        if not is_part:
            raise
        return _part(request, bucket, key, profile, None, error_text(error))
    if explanation.state is ExplanationState.PENDING:
        ring_explain(doorbell, explanation.id)
    if is_part:
        return _part(request, bucket, key, profile, explanation)
    root = request.scope.get("root_path", "")
    return RedirectResponse(f"{root}/image?{query_of({'bucket': bucket, 'key': key})}", 303)


def _part(
    request: Request, bucket: str, key: str, profile: str, explanation: Explanation | None, message: str = ""
) -> HTMLResponse:
    return render(
        request,
        _TEMPLATE,
        etag="",
        bucket=bucket,
        key=key,
        profile=profile,
        explanation=explanation,
        message=message,
    )
