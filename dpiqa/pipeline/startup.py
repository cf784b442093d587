"""Start-up of a worker or listener: checks its prerequisites; a failure exits with one line and code 78."""

import socket
import sys
import threading
from collections.abc import Callable
from typing import NoReturn, TypeVar

import structlog
from prometheus_client import start_http_server
from sqlalchemy import Engine

from dpiqa.errors import ConfigurationError, DatabaseMisconfigured, DpiqaError, NotFound, Unavailable
from dpiqa.exit_codes import ExitCode
from dpiqa.pipeline import metrics
from dpiqa.retries import retry_until_available
from dpiqa.settings import Settings
from dpiqa.storage import schema_state

log = structlog.get_logger()
T = TypeVar("T")


def exit_with(error: DpiqaError) -> NoReturn:
    """Print in one line why this process does not start, and exit with code 78."""
    print(f"dpiqa: {error}", file=sys.stderr, flush=True)  # noqa: T201 - also where logging is not set up yet
    raise SystemExit(ExitCode.CONFIGURATION) from None


def or_exit(step: Callable[[], T]) -> T:
    """Call `step` and return its value; a wrong setting ends the process with one line."""
    try:
        return step()
    except (ConfigurationError, DatabaseMisconfigured, NotFound) as error:
        exit_with(error)


def wait_for(step: Callable[[], T], *, stopping: threading.Event | None = None) -> T:
    """Call `step` until everything outside that it needs is available, and return its value.

    Raises `SystemExit` (0) once `stopping` is set, and `DatabaseMisconfigured`, where waiting does not help.
    """
    try:
        return retry_until_available(step, event="waiting", stopping=stopping, except_for=(DatabaseMisconfigured,))
    except DatabaseMisconfigured:
        raise
    except Unavailable:
        raise SystemExit(ExitCode.OK) from None


def require_schema(engine: Engine) -> None:
    """Raise `ConfigurationError` unless the tables are of this version or a later one, or `DatabaseUnavailable`."""
    state = schema_state.state(engine)
    if not state.is_usable:
        raise ConfigurationError(str(state), hint=state.hint)
    if state.is_newer:
        log.warning("schema_is_newer", database=state.current, needed=state.needed)


def serve_metrics(settings: Settings) -> None:
    """Serve Prometheus metrics on `metrics_port`, if set. Raises `ConfigurationError` for a port that is in use."""
    if settings.metrics_port is None:
        return
    try:
        metrics.watch_disk(settings.models_dir)
        start_http_server(settings.metrics_port)
    except OSError as error:
        raise _port_error("metrics", "port", settings.metrics_port, error, "DPIQA_METRICS_PORT") from None


def require_port(subject: str, host: str, port: int, variable: str) -> None:
    """Raise `ConfigurationError` where `subject` could not listen on the address; `variable` sets its port."""
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[:1]:
            with socket.socket(family, kind, protocol) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
                sock.bind(address)
    except OSError as error:
        raise _port_error(subject, host, port, error, variable) from None


def _port_error(subject: str, host: str, port: int, error: OSError, variable: str) -> ConfigurationError:
    return ConfigurationError(
        f"{subject} cannot be served on {host} {port}: {error.strerror or error}",
        hint=f"set {variable} to a free port, or correct the address",
    )
