"""Dependencies of the routes: resources of the application, and helpers of one request."""

from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request, Response
from pydantic import BaseModel
from sqlalchemy import Connection, Engine

from dpiqa.access import Caller
from dpiqa.doorbell import Doorbell
from dpiqa.errors import NotFound
from dpiqa.objects.s3 import S3Store
from dpiqa.profiles import Profile, load_profile
from dpiqa.settings import Settings
from dpiqa.storage import pages
from dpiqa.storage.saved_profiles import find_named_profile
from dpiqa.types import KeyScope

from .errors import as_invalid_request
from .limits import Backlog
from .monitoring import CALLER, Metrics, Probes
from .progress import ProgressFeeds

# Coroutines, so that FastAPI calls them at once instead of in a thread of its pool.


async def get_settings(request: Request) -> Settings:
    """Return the settings of the application."""
    settings: Settings = request.app.state.settings
    return settings


async def get_engine(request: Request) -> Engine:
    """Return the database engine."""
    engine: Engine = request.app.state.engine
    return engine


async def get_doorbell(request: Request) -> Doorbell:
    """Return the doorbell."""
    doorbell: Doorbell = request.app.state.doorbell
    return doorbell


async def get_metrics(request: Request) -> Metrics:
    """Return the metrics of the application."""
    metrics: Metrics = request.app.state.metrics
    return metrics


async def get_progress_feeds(request: Request) -> ProgressFeeds:
    """Return the polls of the jobs that clients follow."""
    feeds: ProgressFeeds = request.app.state.progress_feeds
    return feeds


async def get_probes(request: Request) -> Probes:
    """Return the probes of database and broker."""
    probes: Probes = request.app.state.probes
    return probes


async def get_store(request: Request) -> S3Store:
    """Return the object store."""
    store: S3Store = request.app.state.store
    return store


async def get_backlog(request: Request) -> Backlog:
    """Return the limit of what waits."""
    backlog: Backlog = request.app.state.backlog
    return backlog


async def get_reader(request: Request) -> Caller:
    """Return the caller, who may read. Raises `Forbidden`."""
    return _caller(request, KeyScope.READ)


async def get_submitter(request: Request) -> Caller:
    """Return the caller, who may submit and change jobs. Raises `Forbidden`."""
    return _caller(request, KeyScope.SUBMIT)


async def get_event_source(request: Request) -> Caller:
    """Return the caller, who may send events. Raises `Forbidden`."""
    return _caller(request, KeyScope.EVENTS, KeyScope.SUBMIT)


async def get_administrator(request: Request) -> Caller:
    """Return the caller, who may do everything. Raises `Forbidden`."""
    return _caller(request, KeyScope.ADMIN)


async def get_scraper(request: Request) -> None:
    """Admit Prometheus: without a key where the path is open, else by a key that reads all buckets."""
    if hasattr(request.state, CALLER):
        _caller(request, KeyScope.READ).grants.require_all("metrics")


def _caller(request: Request, *scopes: KeyScope) -> Caller:
    caller: Caller = getattr(request.state, CALLER)
    caller.require(*scopes)
    return caller


#: The caller of a request, as each route demands it: every route under /v1 has one of these.
ReaderDep = Annotated[Caller, Depends(get_reader)]
SubmitterDep = Annotated[Caller, Depends(get_submitter)]
EventSourceDep = Annotated[Caller, Depends(get_event_source)]
BacklogDep = Annotated[Backlog, Depends(get_backlog)]
SettingsDep = Annotated[Settings, Depends(get_settings)]
#: Routes open their transaction themselves. A dependency that yields a connection would hold it while the route waits
#: for a thread, and more requests than connections would then wait for each other; and writers ring after the commit.
EngineDep = Annotated[Engine, Depends(get_engine)]
StoreDep = Annotated[S3Store, Depends(get_store)]
DoorbellDep = Annotated[Doorbell, Depends(get_doorbell)]
MetricsDep = Annotated[Metrics, Depends(get_metrics)]
ProbesDep = Annotated[Probes, Depends(get_probes)]
ProgressFeedsDep = Annotated[ProgressFeeds, Depends(get_progress_feeds)]


Body = TypeVar("Body", bound=BaseModel)


class PageReply:
    """Builds the response of a route that returns a page."""

    def __init__(self, request: Request) -> None:
        self._request = request

    def __call__(self, schema: type[Body], page: "pages.Page[Any]") -> Response:
        """Answer with a stored page as `schema`, with a `Link: <...>; rel="next"` where there is another page.

        The link is a path: behind a proxy only the client knows the host.
        """
        headers = {}
        if page.next_cursor is not None:
            url = self._request.url.include_query_params(cursor=page.next_cursor)
            headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
        # Written here: from a returned model the framework would make another one, then a dictionary, then JSON.
        body = schema.model_validate(page, from_attributes=True).model_dump_json(by_alias=True)
        return Response(body, headers=headers, media_type="application/json")


async def get_page_reply(request: Request) -> PageReply:
    """Return the builder of a page's response."""
    return PageReply(request)


PageReplyDep = Annotated[PageReply, Depends(get_page_reply)]


def profile_named(connection: Connection, settings: Settings, name: str | None, caller: Caller) -> Profile:
    """Return the profile that a request names, or the one of the settings. Raises `InvalidRequest`."""
    with as_invalid_request(NotFound):
        if name is None:
            return load_profile(settings.profile, settings.profiles_dir)
        return find_named_profile(connection, name, settings.profiles_dir, grants=caller.grants, client=caller.client)
