"""Dependencies of the routes: what the application opens once, and what one request needs of it."""

from collections.abc import Iterator
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request, Response
from pydantic import BaseModel
from sqlalchemy import Connection, Engine

from dpiqa.doorbell import Doorbell
from dpiqa.errors import NotFound
from dpiqa.profiles import Profile, load_profile
from dpiqa.settings import Settings
from dpiqa.storage import pages
from dpiqa.storage.engine import transaction

from .errors import as_invalid_request
from .monitoring import Metrics, Probes

# Coroutines, so that FastAPI calls them at once instead of in a thread of its pool.


async def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


async def _engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


async def _doorbell(request: Request) -> Doorbell:
    doorbell: Doorbell = request.app.state.doorbell
    return doorbell


async def _metrics(request: Request) -> Metrics:
    metrics: Metrics = request.app.state.metrics
    return metrics


async def _probes(request: Request) -> Probes:
    probes: Probes = request.app.state.probes
    return probes


SettingsDep = Annotated[Settings, Depends(_settings)]
#: For routes that write: they open the transaction themselves, because they ring the doorbell after its commit.
EngineDep = Annotated[Engine, Depends(_engine)]
DoorbellDep = Annotated[Doorbell, Depends(_doorbell)]
MetricsDep = Annotated[Metrics, Depends(_metrics)]
ProbesDep = Annotated[Probes, Depends(_probes)]


def _connection(engine: EngineDep) -> Iterator[Connection]:
    with transaction(engine) as connection:
        yield connection


#: For routes that read: one transaction, which ends before the response is sent.
ConnectionDep = Annotated[Connection, Depends(_connection, scope="function")]

Body = TypeVar("Body", bound=BaseModel)


class PageReply:
    """Builds the response of a route that returns a page."""

    def __init__(self, request: Request, response: Response) -> None:
        self._request, self._response = request, response

    def __call__(self, schema: type[Body], page: "pages.Page[Any]") -> Body:
        """Return a stored page as `schema`, with a `Link: <...>; rel="next"` where there is another page.

        The link is a path: behind a proxy only the client knows the host.
        """
        if page.next_cursor is not None:
            url = self._request.url.include_query_params(cursor=page.next_cursor)
            self._response.headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
        return schema.model_validate(page, from_attributes=True)


async def _page_reply(request: Request, response: Response) -> PageReply:
    return PageReply(request, response)


PageReplyDep = Annotated[PageReply, Depends(_page_reply)]


def profile_named(settings: Settings, name: str | None) -> Profile:
    """Return the profile that a request names, or the one of the settings. Raises `InvalidRequest`."""
    with as_invalid_request(NotFound):
        return load_profile(name or settings.profile, settings.profiles_dir)
