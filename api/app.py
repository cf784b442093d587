"""The application, made of its parts."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from uuid import UUID

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from sqlalchemy import Engine
from starlette.exceptions import HTTPException
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from dpiqa.doorbell import load_doorbell
from dpiqa.objects.s3 import S3Store
from dpiqa.pipeline.callbacks import rules_of, signer_of
from dpiqa.settings import Settings, load_settings
from dpiqa.storage.counts import waiting_items
from dpiqa.storage.engine import make_engine, transaction
from dpiqa.storage.job_queries import JobReport, get_job
from dpiqa.watchdog import WATCHDOG, Loop

from . import docs, errors
from .authentication import Authenticator
from .guard import Guard
from .limits import Backlog
from .manners import CORS_METHODS, CORS_REQUEST_HEADERS, CORS_RESPONSE_HEADERS, Answers, Gzip, PathPrefix
from .monitoring import STUCK_SECONDS, Metrics, Probes, RequestLog
from .pages import assets, compare, explore, login, overview, threshold, thumbnails
from .pages import explanations as explanation_pages
from .pages import jobs as job_pages
from .pages import requirements as requirement_pages
from .pages.examples import MAX_UPLOAD_BYTES
from .pages.rendering import check_template, on_http_error
from .pages.thumbnails import Thumbnails
from .progress import ProgressFeeds
from .routes import (
    audit,
    cutoffs,
    events,
    explanations,
    health,
    jobs,
    labels,
    progress,
    reconciliations,
    requirements,
    scores,
    stats,
    steering,
    watches,
)
from .security import Rules
from .sessions import Sessions

DESCRIPTION = """Quality scores for image archives.

Submit a prefix, a list of keys or a watch to `POST /v1/jobs`, follow it at `GET /v1/jobs/{id}`, and ask for scores at
`GET /v1/scores`. A score is MOS/100: nominally 0 to 1, higher is better. The score of a job that named a requirement is
on the requirement's scale. Each score states its `scale`. Errors are `application/problem+json`, with a `code` for
programs and a `hint` for people."""

#: The modules with routes, in the order in which paths are compared.
MODULES = (
    jobs,
    steering,
    progress,
    scores,
    stats,
    cutoffs,
    labels,
    explanations,
    requirements,
    watches,
    reconciliations,
    events,
    audit,
    health,
    docs,
    login,
    overview,
    job_pages,
    explore,
    explanation_pages,
    requirement_pages,
    threshold,
    compare,
    thumbnails,
    assets,
)
S3_SECONDS = 2.0  #: S3 counts as unavailable if it does not answer in this time
STATEMENT_SECONDS = 5  #: Postgres cancels a query that takes longer


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the application. Nothing is connected yet.

    Raises `ConfigurationError` when a setting is missing, wrong or unsafe.
    """
    settings = settings or load_settings()
    rules = _rules(settings)
    signer_of(settings)  # what is wrong is refused now, not with the first job that names a callback
    rules_of(settings)
    check_template(settings.thumbnail_url)
    app = FastAPI(
        title="dpiqa",
        version=version("dpiqa"),
        description=DESCRIPTION,
        lifespan=_lifespan,
        openapi_url=None,  # the routes of `docs` instead
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # those of the framework name a host: `errors` redirects to a path
    )
    state = app.state
    state.settings = settings
    state.doorbell = load_doorbell(settings)
    state.engine = make_engine(
        settings.require_database_url(),
        application_name="dpiqa-api",
        schema=settings.database_schema,
        statement_timeout=min(STATEMENT_SECONDS, settings.database_seconds),
        custom_plans=True,  # one plan for all prefixes reads millions of rows for some of them
    )
    state.store = S3Store.from_settings(settings, read_seconds=S3_SECONDS)
    state.probes = Probes(state.engine, state.doorbell, settings.require_broker_url())
    state.progress_feeds = ProgressFeeds(_reader(state.engine))
    state.backlog = Backlog(_waiting(state.engine), settings.max_waiting_items)
    state.metrics = Metrics(state.probes.snapshot)
    state.thumbnails = Thumbnails(settings)
    routers = [module.router for module in MODULES]
    app.openapi = lambda: docs.describe(app, routers)  # type: ignore[method-assign] # FastAPI's documented way
    for module in MODULES:
        app.include_router(module.router)
    state.routes = [route for module in MODULES for route in module.router.routes]
    errors.install(app)
    app.add_exception_handler(HTTPException, on_http_error)
    _add_middleware(app, settings, rules)
    return app


def _rules(settings: Settings) -> Rules:
    key = settings.api_key.get_secret_value() if settings.api_key else None
    return Rules.of(
        settings.api_host,
        key,
        settings.api_hosts.split(),
        require_key=settings.require_key,
        origins=settings.cors_origins,
    )


def _add_middleware(app: FastAPI, settings: Settings, rules: Rules) -> None:
    """Put what holds for every request around the routes, from the innermost to the outermost."""
    app.state.sessions = Sessions(settings, rules.key_digest)
    authenticator = app.state.authenticator = Authenticator(app.state.engine, settings, rules, app.state.sessions)
    max_bodies = {"/v1/jobs/manifest": settings.max_manifest_bytes}
    max_bodies |= dict.fromkeys(("/requirements", "/requirements/try"), MAX_UPLOAD_BYTES)
    app.add_middleware(
        Guard, rules=rules, authenticator=authenticator, metrics=app.state.metrics, max_bodies=max_bodies
    )
    app.add_middleware(Answers)
    if settings.api_root_path:
        app.add_middleware(PathPrefix, prefix=settings.api_root_path)
    app.add_middleware(Gzip)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=CORS_METHODS,
            allow_headers=CORS_REQUEST_HEADERS,
            expose_headers=CORS_RESPONSE_HEADERS,
        )
    app.add_middleware(RequestLog, metrics=app.state.metrics)
    if settings.api_trusted_proxies:
        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=settings.api_trusted_proxies.split())


def _waiting(engine: Engine) -> Callable[[], int]:
    """Return the function that counts the items that wait."""

    def count() -> int:
        with transaction(engine) as connection:
            return waiting_items(connection)

    return count


def _reader(engine: Engine) -> Callable[[UUID], JobReport]:
    """Return the function that reports on a job, in a transaction of its own."""

    def read(job_id: UUID) -> JobReport:
        with transaction(engine) as connection:
            return get_job(connection, job_id)

    return read


async def _beat(loop: Loop) -> None:
    """Tell the watchdog that the event loop comes round."""
    while True:
        loop.beat()
        await asyncio.sleep(1)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    with WATCHDOG.watch("requests", STUCK_SECONDS) as loop:
        beats = asyncio.create_task(_beat(loop))
        yield
        beats.cancel()
    app.state.progress_feeds.close()
    app.state.thumbnails.close()
    app.state.probes.close()
    app.state.engine.dispose()
