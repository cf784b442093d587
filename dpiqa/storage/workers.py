"""Which workers are alive, as they say themselves."""

import os
import socket
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from dpiqa.types import Stage

ALIVE_SECONDS = 60.0  #: a worker that was not heard of for longer counts as gone

_BEAT = text(
    """
    INSERT INTO workers (id, stage, host, pid, scorer_id) VALUES (:id, :stage, :host, :pid, :scorer_id)
    ON CONFLICT (id) DO UPDATE SET seen_at = clock_timestamp(), stage = excluded.stage, host = excluded.host,
        scorer_id = excluded.scorer_id, pid = excluded.pid,
        started_at = CASE WHEN workers.pid = excluded.pid THEN workers.started_at ELSE clock_timestamp() END
    """
)
_ALIVE = text(
    "SELECT * FROM workers WHERE seen_at > clock_timestamp() - make_interval(secs => :seconds) ORDER BY stage, id"
)
_LEAVE = text("DELETE FROM workers WHERE id = :id")
_FORGET = text("DELETE FROM workers WHERE seen_at < clock_timestamp() - interval '1 day'")


@dataclass(frozen=True, slots=True)
class LiveWorker:
    """A worker process."""

    id: str
    stage: Stage
    host: str
    pid: int
    scorer_id: str
    started_at: datetime
    seen_at: datetime


def heartbeat(c: Connection, worker_id: str, stage: Stage, scorer_id: str) -> None:
    """Say that this process is alive and which scorer it serves. Every 20 s or so."""
    host, pid = socket.gethostname(), os.getpid()
    c.execute(_BEAT, {"id": worker_id, "stage": stage, "host": host, "pid": pid, "scorer_id": scorer_id})


def leave(c: Connection, worker_id: str) -> None:
    """Say that a worker stops."""
    c.execute(_LEAVE, {"id": worker_id})


def workers(c: Connection, alive_seconds: float = ALIVE_SECONDS) -> list[LiveWorker]:
    """Return the workers heard of in the last `alive_seconds`."""
    return [
        LiveWorker(row.id, Stage(row.stage), row.host, row.pid, row.scorer_id, row.started_at, row.seen_at)
        for row in c.execute(_ALIVE, {"seconds": alive_seconds})
    ]


def forget_workers(c: Connection) -> None:
    """Drop what was last heard of a day ago."""
    c.execute(_FORGET)
