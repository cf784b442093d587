"""Overview: what was scored, what waits, and what is wrong now."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from dpiqa.pipeline.findings import find_problems
from dpiqa.profiles import load_profile
from dpiqa.storage.backlog import read_backlog
from dpiqa.storage.counts import escalated_share, failures_by_day, read_rate, totals
from dpiqa.storage.engine import reading
from dpiqa.storage.job_queries import JobFilter, list_jobs
from dpiqa.storage.workers import live_workers
from dpiqa.types import ItemState, JobState

from ..dependencies import EngineDep, ReaderDep, SettingsDep
from .rendering import PageRoute, render

_DAYS = 7  #: of which failures are shown by day
_RUNNING = 20  #: running jobs whose rates are added up

router = APIRouter(route_class=PageRoute, include_in_schema=False)


@router.get("/")
def overview(request: Request, caller: ReaderDep, engine: EngineDep, settings: SettingsDep) -> HTMLResponse:
    """Show the state of the system; for a limited key, its own jobs only."""
    with reading(engine) as c:
        running = list_jobs(c, JobFilter(states=(JobState.RUNNING,), grants=caller.grants), limit=_RUNNING).items
        newest = list_jobs(c, JobFilter(grants=caller.grants), limit=8).items
        rate = sum(read_rate(c, job.id) for job in running)
        if caller.grants.are_limited:
            return render(request, "overview.html", newest=newest, rate=rate, whole=None, problems=[])
        backlog, alive = read_backlog(c), live_workers(c)
        by_state: dict[str, int] = {}
        failures: dict[str, int] = {}
        for (_, state, reason), n in totals(c).items():
            by_state[state] = by_state.get(state, 0) + n
            if reason:
                failures[reason] = failures.get(reason, 0) + n
        by_day, escalated = failures_by_day(c, _DAYS), escalated_share(c)
        problems = find_problems(c, load_profile(settings.profile, settings.profiles_dir), settings.models_dir)
    scored = by_state.get(ItemState.SCORED, 0)
    whole = {
        "scored": scored,
        "waiting": by_state.get(ItemState.QUEUED, 0) + by_state.get(ItemState.LEASED, 0),
        "failures": sorted(failures.items(), key=lambda pair: -pair[1]),
        "oldest": {queue.value: seconds for queue, seconds in backlog.oldest_seconds.items()},
        "workers": alive,
        "escalated": escalated,
        "days": sorted({day for day, _ in by_day if day is not None}),
        "by_day": by_day,
        "has_watches": any(day is None for day, _ in by_day),
    }
    return render(request, "overview.html", newest=newest, rate=rate, whole=whole, problems=problems)
