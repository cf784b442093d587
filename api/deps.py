"""What the routes share: settings, database, doorbell, metrics. Made once per application."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, TypeVar

import structlog
from fastapi import Depends, Request
from sqlalchemy import Connection, Engine

from dpiqa.doorbell import Doorbell, Queue, load_doorbell
from dpiqa.errors import ConfigurationError, InvalidRequest, NotFound, Unavailable
from dpiqa.profiles import Profile, load_profile
from dpiqa.settings import Settings
from dpiqa.storage.counts import jobs_by_state, totals
from dpiqa.storage.engine import make_engine, transaction
from dpiqa.storage.profiles import profile_for

from .metrics import Metrics, Snapshot

log = structlog.get_logger()

STATEMENT_SECONDS = 5  #: a query that takes longer is cancelled by Postgres
PROBE_SECONDS = 3.0  #: a part that has not answered by then counts as down

Answer = TypeVar("Answer")


@dataclass
class Services:
    """What one application holds open."""

    settings: Settings
    engine: Engine
    doorbell: Doorbell
    metrics: Metrics = field(default_factory=Metrics)

    @cached_property
    def probes(self) -> ThreadPoolExecutor:
        """Threads for checks of parts that may hang; a fixed number, so that hanging ones cannot pile up."""
        return ThreadPoolExecutor(max_workers=4, thread_name_prefix="probe")

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One transaction, committed before the answer is sent."""
        with transaction(self.engine) as connection:
            yield connection

    def profile(self, name: str | None) -> Profile:
        """Return the named profile, or the one of the settings. Raises `InvalidRequest` when there is none such."""
        try:
            return load_profile(name or self.settings.profile, self.settings.profiles_dir)
        except NotFound as error:
            raise InvalidRequest(error.message, hint=error.hint) from None

    def requirement(self, connection: Connection, name_or_id: str) -> Profile:
        """Return the profile of jobs that name a requirement. Raises `InvalidRequest` where none is ready."""
        try:
            return profile_for(connection, name_or_id)
        except (NotFound, ConfigurationError) as error:
            raise InvalidRequest(error.message, hint=error.hint) from None

    def snapshot(self) -> Snapshot:
        """Ask database and broker for what /metrics shows; a part that does not answer in time is left out."""
        items, queues = self.ask(self._items), self.ask(self._queues)
        by_state, by_reason = _or_none(items) or (None, None)
        return Snapshot(by_state, by_reason, _or_none(queues))

    def _items(self) -> tuple[dict[str, int], dict[tuple[str, str, str], int]]:
        with self.transaction() as connection:
            return jobs_by_state(connection), totals(connection)

    def _queues(self) -> dict[Queue, int]:
        return {queue: self.doorbell.depth(queue) for queue in Queue}

    def ask(self, question: Callable[[], Answer]) -> "Future[Answer]":
        """Ask something in a thread of its own; take the answer with `answer`."""
        return self.probes.submit(question)

    def close(self) -> None:
        """Close what is held open."""
        if "probes" in self.__dict__:
            self.probes.shutdown(wait=False, cancel_futures=True)
        self.engine.dispose()


def answer(question: "Future[Answer]", seconds: float = PROBE_SECONDS) -> Answer:
    """Wait for an answer. Raises `Unavailable` when it takes too long."""
    try:
        return question.result(seconds)
    except TimeoutError:
        question.cancel()
        raise Unavailable(f"no answer within {seconds:g} s") from None


def _or_none(question: "Future[Answer]") -> Answer | None:
    try:
        return answer(question)
    except Exception as error:  # whatever it is, a scrape must not fail by it
        log.warning("scrape_incomplete", error=type(error).__name__)
        return None


def make_services(settings: Settings) -> Services:
    """Open what the API needs; nothing is connected yet. Raises `ConfigurationError` when a setting is missing."""
    url = settings.require_database_url()
    settings.require_broker_url()
    engine = make_engine(url, application_name="dpiqa-api", statement_timeout=STATEMENT_SECONDS)
    services = Services(settings, engine, load_doorbell(settings))
    services.metrics.observe(services.snapshot)
    return services


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(_services)]
