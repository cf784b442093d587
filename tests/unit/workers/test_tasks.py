"""Tasks: their work beyond calling the library."""

from types import SimpleNamespace

import pytest
import structlog
from celery import Celery
from celery.app.trace import build_tracer
from dpiqa.workers import tasks
from dpiqa.workers.tasks import TASKS, DoorbellTask

from dpiqa.doorbell import Task


class Recording:
    """A worker that notes its calls, each with the log context, and may raise."""

    id = "student@here:1:abc"
    engine = decoder = settings = store = stopping = None

    def __init__(self):
        self.calls, self.contexts = [], []
        self.error = None
        self.lister = SimpleNamespace(list_job=self.note)
        self.maintenance = SimpleNamespace(start=lambda task, row_id, work: work())

    def score(self, item_ids, queue):
        self.note((item_ids, queue))

    def note(self, argument):
        self.calls.append(argument)
        self.contexts.append(structlog.contextvars.get_contextvars())
        if self.error:
            raise self.error


@pytest.fixture
def worker():
    return Recording()


@pytest.fixture
def app(worker):
    app = Celery(task_cls=DoorbellTask, set_as_current=False)
    app.conf.update(broker_url="memory://", task_ignore_result=True)
    app.worker = worker
    for name, function in TASKS.items():
        app.task(name=name.value, bind=True, shared=False)(function)
    return app


def deliver(app, task, *args, routing_key="elsewhere"):
    """Run a task as a worker does when its message arrives."""
    trace = build_tracer(task.value, app.tasks[task], app=app)
    request = {"id": "the-message", "task": task.value, "delivery_info": {"routing_key": routing_key}}
    return trace("the-message", args, {}, request)


def test_every_task_of_the_doorbell_is_there():
    assert set(TASKS) == set(Task)


def test_items_are_scored(app, worker):
    deliver(app, Task.SCORE, [3, "4"])
    deliver(app, Task.SCORE, [5], routing_key="live")
    assert worker.calls == [([3, 4], "bulk"), ([5], "live")]


def test_a_job_is_listed(app, worker):
    deliver(app, Task.EXPAND, "a-job")
    assert worker.calls == ["a-job"]


def test_a_requirement_is_checked(app, worker, monkeypatch):
    monkeypatch.setattr(tasks, "prepare_pending", lambda builder, row_id, store, stopping: worker.note(row_id))
    deliver(app, Task.PREPARE, 7)
    assert worker.calls == [7]


def test_log_lines_of_a_message_can_be_joined(app, worker):
    deliver(app, Task.EXPAND, "a-job")
    (context,) = worker.contexts
    assert context == {
        "task_id": "the-message", "task": "dpiqa.expand", "worker": worker.id, "job": "a-job",
    }  # fmt: skip
    assert structlog.contextvars.get_contextvars() == {}


@pytest.mark.parametrize("error", [MemoryError(), ValueError("a bug")])
def test_no_error_crosses_into_celery(app, worker, error):
    worker.error = error
    with structlog.testing.capture_logs() as lines:
        app.tasks[Task.SCORE]([1])
    assert [line["event"] for line in lines] == ["task_failed"]
    assert lines[0]["error"].startswith(type(error).__name__)


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt()])
def test_what_ends_the_process_is_not_swallowed(app, worker, error):
    worker.error = error
    with pytest.raises(type(error)):
        app.tasks[Task.SCORE]([1])
    assert structlog.contextvars.get_contextvars() == {}
