"""Compare two profiles, or student and teacher of one, on the same images: ranks, what moved most, decisions."""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from pydantic import Field

from dpiqa.errors import InvalidRequest
from dpiqa.storage.comparisons import MAX_SAMPLE, models_of
from dpiqa.storage.engine import reading
from dpiqa.storage.scorers import list_used_profiles

from ..dependencies import EngineDep, ReaderDep, SettingsDep
from ..routes.cutoffs import ComparisonParameters
from .rendering import PageRoute, error_text, read_query, render

router = APIRouter(route_class=PageRoute, include_in_schema=False)


class PageParameters(ComparisonParameters):
    """The query of the page."""

    sample: Annotated[int, Field(ge=2, le=MAX_SAMPLE)] = 1_000  #: each may be elsewhere on the disk of the database


@router.get("/compare")
def compare(request: Request, caller: ReaderDep, engine: EngineDep, settings: SettingsDep) -> HTMLResponse:
    """Show two sides: unless the address says which, the usual profile and the newest other one, or its two models."""
    parameters = read_query(request, PageParameters)
    with reading(engine) as c:
        profiles = [row.id for row in list_used_profiles(c, caller.grants) if row.n_results != 0]
        first = parameters.conditions(c, settings, caller.grants).profile or ""
        if parameters.teacher:
            parameters.second = None
        elif parameters.second is None:
            parameters.second = next((name for name in profiles if name != first), None)
            parameters.teacher = parameters.second is None and models_of(c, first) is not None
        found, note = None, ""
        if parameters.second == first:
            note = "Choose two different profiles."
        elif parameters.second is None and not parameters.teacher:
            note = "There are scores under one profile only, and it has no teacher. Submit a job under another one."
        else:
            try:
                found = parameters.compare(c, settings, caller.grants)
            except InvalidRequest as error:
                note = error_text(error)
    chosen: dict[str, Any] = parameters.model_dump(mode="json")
    return render(
        request,
        "compare.html",
        found=found,
        max_sample=MAX_SAMPLE,
        note=note,
        chosen=chosen,
        profiles=profiles,
        first=first,
        second=parameters.second,
    )
