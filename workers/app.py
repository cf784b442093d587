"""The Celery app of workers: `celery -A dpiqa.workers.app worker -P threads -Q live,bulk,maintenance`.

Importing this module reads no settings and connects to nothing: Celery asks for the configuration when it needs it.
Flower uses the app too.
"""

import os
import signal
import threading
import warnings
from functools import cached_property
from typing import Any

import structlog
from celery import signals
from celery.exceptions import SecurityWarning
from celery.worker import state
from celery.worker.control import Panel

from dpiqa.errors import ConfigurationError
from dpiqa.logs import configure_logging
from dpiqa.pipeline import metrics
from dpiqa.pipeline.startup import or_exit, serve_metrics, wait_for
from dpiqa.pipeline.worker import Worker, start_worker
from dpiqa.process_tuning import share_one_arena
from dpiqa.settings import Settings, load_settings
from dpiqa.signals import on_signals

from .broker import ServingOrder, celery_settings
from .doorbell import CeleryDoorbell
from .tasks import TASKS, DoorbellTask
from .transports import BrokerApp

log = structlog.get_logger()

STOP_SECONDS = 20.0  #: from SIGTERM to the end, at most


class WorkerApp(BrokerApp):
    """A Celery app that reads its settings when it is first used, and holds the `Worker` of its process."""

    worker: Worker | None = None  #: from `worker_init` on

    def __init__(self) -> None:
        super().__init__(task_cls=DoorbellTask)
        self.add_defaults(lambda: celery_settings(or_exit(self.settings.require_broker_url)))
        for name, function in TASKS.items():
            self.task(name=name.value, bind=True, shared=False)(function)

    @cached_property
    def settings(self) -> Settings:
        """Settings of this process; a wrong one ends it with one line."""
        return or_exit(load_settings)


app = WorkerApp()
warnings.filterwarnings("ignore", category=SecurityWarning)  # to root, about pickle: messages are JSON only


def refuse_command(_state: Any, **_: Any) -> dict[str, str]:
    """Answer a command that came over the broker: who may write there must not stop workers."""
    log.warning("command_refused")
    return {"error": "workers take no commands over the broker"}


for name, command in Panel.meta.items():  # questions, which Flower asks, stay
    if command.type == "control":
        Panel.data |= {key: refuse_command for key in (name, command.alias) if key}


@signals.setup_logging.connect
def set_up_logging(**_: Any) -> None:
    """Take the place of Celery's own logging."""
    configure_logging(app.settings)


@signals.worker_init.connect
def start(sender: Any, **_: Any) -> None:
    """Check the prerequisites of this worker and load its model, before it takes a message."""
    share_one_arena()  # here, where no thread of ours runs yet: also for those who start Celery by hand
    configure_logging(app.settings)
    app.worker = or_exit(lambda: checked_worker(sender.pool_cls))


def checked_worker(pool_class: type) -> Worker:
    """Return a started worker. Raises `ConfigurationError`, also for a forking pool: no GPU context survives a fork."""
    if not pool_class.__module__.endswith((".thread", ".solo")):
        raise ConfigurationError(
            f"the pool {pool_class.__module__} does not suit this worker", hint="start it with -P threads"
        )
    wait_for(CeleryDoorbell(app.settings.require_broker_url()).check)
    metrics.WORKER_READY.labels(app.settings.worker_stage.value).set(0)
    serve_metrics(app.settings)
    return start_worker(app.settings)


@signals.worker_ready.connect
def begin(**_: Any) -> None:
    """Start the feeder, which also sends this worker's heartbeats, and handle SIGTERM."""
    if app.worker is not None:
        app.worker.feeder.start()
        app.worker.callbacks.start()
        ServingOrder.reads = app.worker.slots.reads
        on_signals(stop, signal.SIGTERM)
        metrics.WORKER_READY.labels(app.worker.stage.value).set(1)
        log.info("worker_ready", stage=app.worker.stage)


def stop() -> None:
    """Warm shutdown with a deadline: running chunks release their claims, then Celery ends the threads.

    By `STOP_SECONDS` all leases are released; a thread that still hangs in S3 must not keep the process.
    """
    if app.worker is not None:
        app.worker.stop()
    state.should_stop = 0
    timer = threading.Timer(STOP_SECONDS, os._exit, (0,))
    timer.daemon = True
    timer.start()


@signals.worker_shutdown.connect
def end(**_: Any) -> None:
    """End the threads, processes and connections of the worker."""
    if app.worker is not None:
        app.worker.close()
