"""What Prometheus sees: requests of this process, and jobs, items and queues as the database and the broker say.

Jobs and items are read from the roll-up `job_counts` when somebody asks, never counted from the items.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric

from dpiqa.doorbell import Queue

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the outside parts said. None: that part did not answer."""

    jobs: dict[str, int] | None  #: state -> jobs
    items: dict[tuple[str, str, str], int] | None  #: (stage, state, reason) -> items
    queues: dict[Queue, int] | None  #: messages waiting


class Metrics:
    """The metrics of one application; each has its own registry, so that two may live in one process."""

    def __init__(self) -> None:
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

    def observe(self, snapshot: Callable[[], Snapshot]) -> None:
        """Ask `snapshot` at every scrape. It bounds its own time and never raises."""
        self.registry.register(_Outside(snapshot))


class _Outside:
    """Turns a snapshot into metrics."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self.snapshot = snapshot

    def describe(self) -> Iterable[Metric]:
        """Declare nothing: registering must not ask the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Ask now."""
        seen = self.snapshot()
        up = GaugeMetricFamily("dpiqa_up", "Whether a part answered this scrape.", labels=["part"])
        up.add_metric(["database"], float(seen.jobs is not None))
        up.add_metric(["broker"], float(seen.queues is not None))
        yield up
        yield _gauge("dpiqa_jobs", "Jobs by state.", ["state"], seen.jobs or {})
        yield _gauge("dpiqa_items", "Items of all jobs.", ["stage", "state", "reason"], seen.items or {})
        queues = {queue.value: n for queue, n in (seen.queues or {}).items()}
        yield _gauge("dpiqa_queue_messages", "Messages waiting, by queue.", ["queue"], queues)


def _gauge(name: str, text: str, labels: list[str], values: Mapping[Any, int]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, number in sorted(values.items()):
        family.add_metric([key] if isinstance(key, str) else list(key), number)
    return family
