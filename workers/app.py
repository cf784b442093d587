"""The Celery app: `python -m celery -A dpiqa.workers.app worker -P threads -Q live,bulk,maintenance`.

`DPIQA_WORKER_STAGE` (`student` or `teacher`) says which model this process holds. Importing this module connects to
nothing: Flower does it too.
"""

import os
import signal
import threading
import warnings
from types import FrameType
from typing import Any

import structlog
from celery import signals
from celery.exceptions import SecurityWarning
from celery.worker import state

from dpiqa.broker import is_redis, require_no_eviction
from dpiqa.errors import ConfigurationError
from dpiqa.logs import configure_logging
from dpiqa.pipeline.startup import or_refuse, serve_metrics, wait_for
from dpiqa.pipeline.worker import Room, open_room
from dpiqa.settings import Settings, load_settings
from dpiqa.types import Stage

from .broker import make_celery
from .tasks import register

log = structlog.get_logger()

STOP_SECONDS = 20.0  #: from SIGTERM to the end, at most

warnings.filterwarnings("ignore", category=SecurityWarning)  # to root, about pickle: messages are JSON only
settings: Settings = or_refuse(load_settings)
app = make_celery(or_refuse(settings.require_broker_url))
_open: list[Room] = []


def room() -> Room:
    """Return what this process works with; opened before the first task runs."""
    return _open[0]


register(app, room)


@signals.setup_logging.connect
def _set_up_logging(**_: Any) -> None:
    configure_logging(settings)


@signals.worker_init.connect
def _prepare(sender: Any, **_: Any) -> None:
    """Check what this worker stands on and load its model, before it takes a message."""
    configure_logging(settings)
    or_refuse(lambda: _open.append(_opened(sender)))


def _opened(worker: Any) -> Room:
    _require_threads(worker)
    broker_url = settings.require_broker_url()
    if is_redis(broker_url):
        wait_for(lambda: require_no_eviction(broker_url))
    serve_metrics()
    return open_room(settings, _stage())


def _stage() -> Stage:
    name = os.environ.get("DPIQA_WORKER_STAGE", Stage.STUDENT)
    try:
        return Stage(name)
    except ValueError:
        raise ConfigurationError(
            f"DPIQA_WORKER_STAGE is {name!r}", hint=f"set it to {' or '.join(Stage)}, or use `dpiqa worker`"
        ) from None


def _require_threads(worker: Any) -> None:
    """Raise `ConfigurationError` for a pool that forks: a device cannot be used in a fork."""
    pool = getattr(worker.pool_cls, "__module__", "")
    if not pool.endswith((".thread", ".solo")):
        raise ConfigurationError(f"the pool {pool} does not suit this worker", hint="start it with -P threads")


@signals.worker_ready.connect
def _begin(**_: Any) -> None:
    """Say that we are here, feed, and leave politely when asked."""
    room().feeder.start()
    signal.signal(signal.SIGTERM, _leave)
    log.info("worker_ready", stage=_stage())


def _leave(_signal: int, _frame: FrameType | None) -> None:
    """Warm shutdown, soon: running chunks give back what has not reached the device, then Celery ends the threads.

    By `STOP_SECONDS` all leases are given back; a thread that still hangs in S3 must not keep the process.
    """
    room().stop()
    state.should_stop = 0
    timer = threading.Timer(STOP_SECONDS, os._exit, (0,))
    timer.daemon = True
    timer.start()


@signals.worker_shutdown.connect
def _end(**_: Any) -> None:
    if _open:
        room().close()
