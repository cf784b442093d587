"""Live workers, by their heartbeats."""

import os
import socket
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from sqlalchemy import Connection, Interval, Row, bindparam, case, delete, select
from sqlalchemy.dialects.postgresql import insert

from dpiqa.storage.columns import NOW
from dpiqa.storage.tables import workers
from dpiqa.types import Stage

ALIVE_SECONDS = 60.0  #: a worker whose last heartbeat is older counts as gone

_NEW = insert(workers)
_IS_SAME_PROCESS = workers.c.pid == _NEW.excluded.pid
UPSERT_WORKER = _NEW.on_conflict_do_update(
    index_elements=[workers.c.id],
    set_={
        "seen_at": NOW,
        "stage": _NEW.excluded.stage,
        "host": _NEW.excluded.host,
        "scorer_id": _NEW.excluded.scorer_id,
        "device": _NEW.excluded.device,
        "pid": _NEW.excluded.pid,
        "started_at": case((_IS_SAME_PROCESS, workers.c.started_at), else_=NOW),
    },
)
LIVE_WORKERS = (
    select(workers)
    .where(workers.c.seen_at > NOW - bindparam("age", type_=Interval))
    .order_by(workers.c.stage, workers.c.id)
)
DELETE_WORKER = delete(workers).where(workers.c.id == bindparam("worker_id"))
DELETE_OLD_WORKERS = delete(workers).where(workers.c.seen_at < NOW - bindparam("age", type_=Interval))


@dataclass(frozen=True, slots=True)
class LiveWorker:
    """A row of `workers`: a worker process."""

    id: str
    stage: Stage
    host: str
    pid: int
    scorer_id: str
    started_at: datetime
    seen_at: datetime
    device: str | None = None  #: what its scorer runs on, such as `cuda:0`; None: it does not say

    @classmethod
    def from_row(cls, row: Row[Any]) -> Self:
        """Read a row of `workers`, all columns of it."""
        return cls(**row._mapping)


def heartbeat(c: Connection, worker_id: str, stage: Stage, scorer_id: str, device: str | None = None) -> None:
    """Record that this process is alive, which scorer it serves and on which device, every `sweep_seconds`."""
    values = {"id": worker_id, "stage": stage, "host": socket.gethostname(), "pid": os.getpid()}
    c.execute(UPSERT_WORKER, values | {"scorer_id": scorer_id, "device": device})


def remove_worker(c: Connection, worker_id: str) -> None:
    """Remove a worker that stops."""
    c.execute(DELETE_WORKER, {"worker_id": worker_id})


def live_workers(c: Connection, alive_seconds: float = ALIVE_SECONDS) -> list[LiveWorker]:
    """Return the workers whose last heartbeat is at most `alive_seconds` old."""
    rows = c.execute(LIVE_WORKERS, {"age": timedelta(seconds=alive_seconds)})
    return [LiveWorker.from_row(row) for row in rows]


def remove_old_workers(c: Connection) -> None:
    """Delete workers whose last heartbeat is more than a day old."""
    c.execute(DELETE_OLD_WORKERS, {"age": timedelta(days=1)})
