"""The application: what it is made of, in the order a request meets it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from dpiqa.settings import Settings, load_settings

from . import docs, errors, openapi
from .deps import Services, make_services
from .middleware import Guard, Recorder
from .routes import events, health, jobs, requirements, scores
from .security import Access

DESCRIPTION = """Quality scores for image archives.

Submit a prefix, a list of keys or a watch to `POST /v1/jobs`, follow it at `GET /v1/jobs/{id}`, and ask for scores at
`GET /v1/scores`. A score is MOS/100: nominally 0 to 1, higher is better; that of a job which named a requirement is on
the requirement's scale. Each says so in its `scale`. Errors are `application/problem+json`, with a `code` for programs
and a `hint` for people."""


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the application. Raises `ConfigurationError` when a setting is missing, wrong or unsafe."""
    settings = settings or load_settings()
    key = settings.api_key.get_secret_value() if settings.api_key else None
    access = Access.of(settings.api_host, key, settings.api_hosts.split())
    services = make_services(settings)
    app = FastAPI(
        title="dpiqa",
        version=version("dpiqa"),
        description=DESCRIPTION,
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.services = services
    app.openapi = lambda: openapi.describe(app)  # type: ignore[method-assign] # FastAPI's documented way
    for router in (jobs.router, scores.router, requirements.router, events.router, health.router, docs.router):
        app.include_router(router)
    errors.install(app)
    app.add_middleware(Guard, access=access)
    app.add_middleware(Recorder, metrics=services.metrics)  # added last, so it stands outermost
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    services: Services = app.state.services
    yield
    services.close()
