"""How a process of ours starts: settings, then what it stands on; or one line and exit code 78."""

import os
import sys
import time
from collections.abc import Callable
from typing import NoReturn, TypeVar

import structlog
from prometheus_client import start_http_server
from sqlalchemy import Engine

from dpiqa.errors import ConfigurationError, DpiqaError, NotFound, Unavailable
from dpiqa.pipeline.failures import delay
from dpiqa.storage import schema

log = structlog.get_logger()
T = TypeVar("T")

EX_CONFIG = 78  #: exit code: the deployment is wrong, starting again will not help


def refuse(error: DpiqaError) -> NoReturn:
    """Say in one line why this process does not start, and end it."""
    print(f"dpiqa: {error}", file=sys.stderr, flush=True)  # noqa: T201 - also where logging is not set up yet
    raise SystemExit(EX_CONFIG) from None


def or_refuse(step: Callable[[], T]) -> T:
    """Return what `step` returns; a wrong deployment ends the process with one line."""
    try:
        return step()
    except (ConfigurationError, NotFound) as error:
        refuse(error)


def wait_for(step: Callable[[], T], *, is_over: Callable[[], bool] = lambda: False) -> T:
    """Return what `step` returns, trying for as long as something outside is away."""
    attempt = 0
    while True:
        try:
            return step()
        except Unavailable as error:
            attempt += 1
            log.warning("waiting", error=str(error))
            _sleep(delay(attempt, base=0.2, cap=5), is_over)


def _sleep(seconds: float, is_over: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if is_over():
            raise SystemExit(0)
        time.sleep(0.1)


def require_schema(engine: Engine) -> None:
    """Raise `ConfigurationError` unless the database has the tables of this version, `DatabaseUnavailable` if away."""
    state = schema.state(engine)
    if not state.is_current:
        raise ConfigurationError(str(state), hint=state.hint)


def serve_metrics() -> None:
    """Serve metrics on DPIQA_METRICS_PORT, if set. Raises `ConfigurationError` for a port that cannot be had."""
    port = os.environ.get("DPIQA_METRICS_PORT")
    if not port:
        return
    try:
        start_http_server(int(port))
    except (ValueError, OverflowError, OSError) as error:
        raise ConfigurationError(
            f"metrics cannot be served on port {port}: {error}", hint="set DPIQA_METRICS_PORT to a free port"
        ) from None
