"""Monitoring: the log line of each request, metrics for Prometheus, and probes of database and broker."""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from uuid import uuid4

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from sqlalchemy import Engine
from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dpiqa.access import Caller
from dpiqa.broker import require_storage
from dpiqa.broker_url import BrokerUrl
from dpiqa.doorbell import Doorbell, Queue
from dpiqa.errors import DpiqaError, Unavailable
from dpiqa.http_api.common import Check
from dpiqa.storage import schema_state
from dpiqa.storage.backlog import Backlog, read_backlog
from dpiqa.storage.counts import jobs_by_state, totals
from dpiqa.storage.engine import transaction
from dpiqa.text import shorten
from dpiqa.watchdog import WATCHDOG

from .errors import MAX_TEXT, problem_type_of

log = structlog.get_logger()

PROBE_SECONDS = 3.0  #: a part that has not answered by then counts as down
STUCK_SECONDS = 60.0  #: no probe takes that long: after it, the process ends
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
#: Query parameters whose values may be logged. Others (a key put there by mistake) are logged by name only.
_LOGGED = frozenset(
    {
        "bucket",
        "prefix",
        "key",
        "min",
        "max",
        "profile",
        "job",
        "model",
        "status",
        "state",
        "sort",
        "worst",
        "best",
        "limit",
        "format",
        "failures",
        "suffix",
        "since",
        "until",
        "route",
        "requirement",
        "band",
        "group_by",
        "reason",
        "step",
    }
)
CALLER = "caller"  #: the caller of a request, in the state of its scope
REQUEST_ID = "request_id"  #: the id of a request, in the state of its scope; the client's own, or a new one
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_QUIET = frozenset({"/healthz", "/readyz", "/metrics"})  #: requested every few seconds: logged only when they fail

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """State of database and broker at one scrape. None: that part did not answer."""

    jobs: dict[str, int] | None  #: state -> jobs
    items: dict[tuple[str, str, str], int] | None  #: (stage, state, reason) -> items
    queues: dict[Queue, int] | None  #: messages waiting
    backlog: Backlog | None = None
    ready: dict[str, bool] = field(default_factory=dict)  #: part -> whether `checks` finds it ready


class Probes:
    """Queries to database and broker in threads, bounded in time together.

    The number of threads is fixed, so that queries to parts that hang cannot pile up, and each part has its own, so
    that one that hangs does not make the other look down.
    """

    def __init__(self, engine: Engine, doorbell: Doorbell, broker_url: BrokerUrl) -> None:
        self._engine, self._doorbell, self._broker_url = engine, doorbell, broker_url
        self._database_threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="probe-database")
        self._broker_threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="probe-broker")

    def checks(self) -> list[Check]:
        """Check database, migrations and broker at once."""
        answers = {
            "database": self._ask_database(self._check_database),
            "migrations": self._ask_database(self._check_migrations),
            "broker": self._ask_broker(self._check_broker),
        }
        return [_check_of(part, answer) for part, answer in answers.items()]

    def snapshot(self) -> Snapshot:
        """Read what /metrics shows. Never raises; a part that does not answer in time is left out."""
        items, queues = self._ask_database(self._count), self._ask_broker(self._depths)
        backlog = self._ask_database(self._read_backlog)
        ready = {check.part: check.ok for check in self.checks()}
        by_state, by_reason = _result_or_none(items) or (None, None)
        return Snapshot(by_state, by_reason, _result_or_none(queues), _result_or_none(backlog), ready)

    def close(self) -> None:
        """End the threads, without waiting for parts that hang."""
        self._database_threads.shutdown(wait=False, cancel_futures=True)
        self._broker_threads.shutdown(wait=False, cancel_futures=True)

    def _ask_database(self, probe: Callable[[], T]) -> "_Answer[T]":
        return _Answer(self._database_threads, probe)

    def _ask_broker(self, probe: Callable[[], T]) -> "_Answer[T]":
        return _Answer(self._broker_threads, probe)

    def _check_database(self) -> Check:
        with transaction(self._engine) as connection:
            schema_state.require_writable(connection)
        return Check(part="database", ok=True)

    def _check_migrations(self) -> Check:
        state = schema_state.state(self._engine)
        if state.is_usable:
            return Check(part="migrations", ok=True, detail=f"revision {state.current}")
        return Check(part="migrations", ok=False, detail=str(state), hint=state.hint)

    def _check_broker(self) -> Check:
        self._doorbell.depth(Queue.LIVE)
        if self._broker_url.is_redis:
            require_storage(self._broker_url)
        return Check(part="broker", ok=True)

    def _count(self) -> tuple[dict[str, int], dict[tuple[str, str, str], int]]:
        with transaction(self._engine) as connection:
            return jobs_by_state(connection), totals(connection)

    def _read_backlog(self) -> Backlog:
        with transaction(self._engine) as connection:
            return read_backlog(connection)

    def _depths(self) -> dict[Queue, int]:
        return {queue: self._doorbell.depth(queue) for queue in Queue}


class _Answer(Generic[T]):
    """The answer of a probe, awaited until `PROBE_SECONDS` after it was asked."""

    def __init__(self, threads: ThreadPoolExecutor, probe: Callable[[], T]) -> None:
        def watched() -> T:
            with WATCHDOG.watch("probe", STUCK_SECONDS):
                return probe()

        self._until = time.monotonic() + PROBE_SECONDS
        self._future: Future[T] = threads.submit(watched)

    def result(self) -> T:
        """Return it. Raises `Unavailable` where it does not come in time, or the error of the probe."""
        try:
            return self._future.result(max(0.0, self._until - time.monotonic()))
        except TimeoutError:
            self._future.cancel()
            raise Unavailable(f"no answer within {PROBE_SECONDS:g} s") from None


def _result_or_none(answer: _Answer[T]) -> T | None:
    try:
        return answer.result()
    except Exception as error:  # a scrape must not fail because of it
        log.warning("scrape_incomplete", error=type(error).__name__)
        return None


def _check_of(part: str, answer: _Answer[Check]) -> Check:
    try:
        return answer.result()
    except Exception as error:  # any error means that the part is not ready
        problem = problem_type_of(error)
        if not isinstance(error, DpiqaError):
            return Check(part=part, ok=False, detail=problem.detail)
        detail, hint = problem.detail or error.message, problem.hint or error.hint
        return Check(part=part, ok=False, detail=detail, hint=hint)


class Metrics:
    """The metrics of one application; each has its own registry, so that two may live in one process.

    Jobs and items are read from the roll-up `job_counts` at every scrape, never counted from the items.
    """

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        """`snapshot` is called at every scrape. It must bound its own time and never raise."""
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "dpiqa_api_requests", "Requests answered.", ["method", "route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "dpiqa_api_request_seconds",
            "Seconds from request to answer.",
            ["method", "route"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.key_failures = Counter(
            "dpiqa_api_key_failures",
            "Requests refused because of their key: missing, wrong, or beyond a limit of requests.",
            ["reason"],
            registry=self.registry,
        )
        self.registry.register(_SnapshotCollector(snapshot))


class _SnapshotCollector:
    """Turns a snapshot into metrics."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot

    def describe(self) -> Iterable[Metric]:
        """Declare nothing: registering must not query the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Take a snapshot now."""
        snapshot = self._snapshot()
        up = GaugeMetricFamily("dpiqa_up", "Whether a part answered this scrape.", labels=["part"])
        up.add_metric(["database"], float(snapshot.jobs is not None))
        up.add_metric(["broker"], float(snapshot.queues is not None))
        yield up
        yield _gauge("dpiqa_ready", "Whether `GET /readyz` finds a part ready.", ["part"], snapshot.ready)
        yield _gauge("dpiqa_jobs", "Jobs by state.", ["state"], snapshot.jobs or {})
        yield _gauge("dpiqa_items", "Items of all jobs.", ["stage", "state", "reason"], snapshot.items or {})
        queues = {queue.value: n for queue, n in (snapshot.queues or {}).items()}
        yield _gauge("dpiqa_queue_messages", "Messages waiting, by queue.", ["queue"], queues)
        if snapshot.backlog is not None:
            yield from _of_backlog(snapshot.backlog)


def _of_backlog(backlog: Backlog) -> Iterator[Metric]:
    """Yield the metrics of what waits, and of what is not taken care of."""
    text = "Seconds since the oldest waiting item, or listing, of open jobs was due, by queue."
    yield _gauge(
        "dpiqa_oldest_waiting_seconds", text, ["queue"], {q.value: s for q, s in backlog.oldest_seconds.items()}
    )
    yield _gauge("dpiqa_workers", "Live workers.", ["stage"], {s.value: n for s, n in backlog.workers.items()})
    yield _gauge(
        "dpiqa_leases_overdue", "Leases that ran out and were not taken back.", [], {(): backlog.overdue_leases}
    )
    text = "Buckets that no worker reads, or that are being tried again."
    yield _gauge("dpiqa_buckets_postponed", text, [], {(): backlog.postponed_buckets})
    if backlog.next_key_expiry_seconds is not None:
        text = "Seconds until the next live API key expires; absent where none does."
        yield _gauge("dpiqa_api_key_expiry_seconds", text, [], {(): backlog.next_key_expiry_seconds})


def _gauge(name: str, documentation: str, labels: list[str], values: Mapping[Any, float]) -> Metric:
    family = GaugeMetricFamily(name, documentation, labels=labels)
    for key, number in sorted(values.items()):
        family.add_metric([key] if isinstance(key, str) else list(key), number)
    return family


class RequestLog:
    """Middleware that logs and counts every request, by route and not by path: the number of paths is unbounded."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, then log and count."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status, started = 500, time.perf_counter()
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid4().hex
        scope.setdefault("state", {})[REQUEST_ID] = request_id

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self.app(scope, receive, send_and_note)
            finally:
                self._record(scope, status, time.perf_counter() - started)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        method = scope["method"] if scope["method"].isalpha() and len(scope["method"]) <= 7 else "other"
        self.metrics.requests.labels(method, route, str(status)).inc()
        self.metrics.seconds.labels(method, route).observe(seconds)
        if route in _QUIET and status < 400:
            return
        caller: Caller | None = scope.get("state", {}).get(CALLER)
        parameters = QueryParams(scope.get("query_string", b"")).multi_items()[:20]
        query = {
            shorten(name, 32): shorten(value, MAX_TEXT) if name in _LOGGED else "***" for name, value in parameters
        }
        log.info(
            "request",
            status=status,
            ms=round(seconds * 1000, 1),
            method=method,
            path=shorten(scope["path"], MAX_TEXT),
            query=query,
            client=(scope.get("client") or ("?",))[0],
            **({} if caller is None else {"key": caller.key_id or caller.name}),
        )
