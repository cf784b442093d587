"""Connections to Postgres: bounded in every wait, at home behind a pooler.

- Nothing of ours is in the start-up packet but names that every pooler knows. What a session needs (time-outs, search
  path) is set after connecting; where a pooler shares sessions, in each transaction.
- The kernel gives up a silent peer after 25 s (keepalives, `tcp_user_timeout`). Where TCP still acknowledges but
  nobody answers, the client gives up by itself.
"""

import math
import time
from collections.abc import Generator, Mapping
from typing import Any

import psycopg
from psycopg import sql

from dpiqa.watchdog import beat

#: Seconds that a wait for the server may take before the session is in use, and beyond the server's own time-out.
ANSWER_SECONDS = 5.0


class Connection(psycopg.Connection[Any]):
    """A connection that gives up when the server has not answered in time. It is closed then."""

    answer_seconds = ANSWER_SECONDS  #: for which nothing may come or go while we wait

    def wait(self, gen: Generator[Any, Any, Any], *args: Any, **kwargs: Any) -> Any:
        """Wait for the server. Raises `OperationalError` once nothing has come or gone for `answer_seconds`."""
        value = super().wait(self._bounded(gen), *args, **kwargs)
        beat()
        return value

    def _bounded(self, gen: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        deadline = time.monotonic() + self.answer_seconds
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if ready:
                    deadline = time.monotonic() + self.answer_seconds
                elif time.monotonic() > deadline:
                    self.close()
                    raise psycopg.OperationalError(f"no answer within {self.answer_seconds:g} s")
                wanted = gen.send(ready)
        except StopIteration as end:
            return end.value


class Session:
    """The settings of the sessions of one engine: parameters of Postgres, by their names."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._settings = dict(settings)
        self.is_pooled = False  #: whether sessions are shared with others, as far as is known
        self.was_full_at = -math.inf  #: monotonic seconds of the last write for which there was no space

    def set_up(self, connection: Connection) -> None:
        """Prepare a new connection: its settings, or none where a pooler shares its session with others.

        Another process answers there than the one that let us in. What is set in such a session would be met by
        others, and what is prepared there may be missing in the next transaction.
        """
        connection.autocommit = True
        pid = connection.execute("SELECT pg_backend_pid()").fetchone()
        self.is_pooled |= pid != (connection.info.backend_pid,)
        if self.is_pooled:
            connection.prepare_threshold = None
        else:
            connection.execute(self.statement(is_local=False))
        connection.autocommit = False

    def statement(self, *, is_local: bool) -> str:
        """Return the statement that sets all, until the transaction or the session ends."""
        calls = (
            f"set_config({sql.quote(name)}, {sql.quote(value)}, {is_local})" for name, value in self._settings.items()
        )
        return f"SELECT {', '.join(calls)}"
