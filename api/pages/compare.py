"""Compare two profiles on the same images: ranks, pictures that moved most, decisions that differ."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from dpiqa.errors import InvalidRequest
from dpiqa.http_api.common import ProfileName
from dpiqa.storage.engine import reading
from dpiqa.storage.scorers import list_used_profiles

from ..dependencies import EngineDep, ReaderDep, SettingsDep
from ..routes.cutoffs import ComparisonParameters
from .rendering import PageRoute, error_text, read_query, render

router = APIRouter(route_class=PageRoute, include_in_schema=False)


class PageParameters(ComparisonParameters):
    """The query of the page: before profiles are chosen there is no second one."""

    second: ProfileName | None = None  # type: ignore[assignment] # the page names another one itself


@router.get("/compare")
def compare(request: Request, caller: ReaderDep, engine: EngineDep, settings: SettingsDep) -> HTMLResponse:
    """Show two profiles side by side; unless two are named, the usual one and the newest other one."""
    parameters = read_query(request, PageParameters)
    with reading(engine) as c:
        profiles = [row.id for row in list_used_profiles(c, caller.grants) if row.n_results != 0]
        first = parameters.conditions(c, settings, caller.grants).profile
        second = parameters.second or next((name for name in profiles if name != first), None)
        found, note = None, ""
        if second is None:
            note = "There are scores under one profile only. Submit a job under another one, and compare them here."
        elif second == first:
            note = "Choose two different profiles."
        else:
            parameters.second = second
            try:
                found = parameters.compare(c, settings, caller.grants)
            except InvalidRequest as error:
                note = error_text(error)
    chosen: dict[str, Any] = parameters.model_dump(mode="json")
    return render(
        request, "compare.html", found=found, note=note, chosen=chosen, profiles=profiles, first=first, second=second
    )
