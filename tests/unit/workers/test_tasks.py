"""Tasks: their work beyond calling the library."""

import threading
from concurrent.futures import ThreadPoolExecutor
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

    def score(self, item_ids):
        self.note(item_ids)

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


def deliver(app, task, *args):
    """Run a task as a worker does when its message arrives."""
    trace = build_tracer(task.value, app.tasks[task], app=app)
    return trace("the-message", args, {}, {"id": "the-message", "task": task.value})


def test_every_task_of_the_doorbell_is_there():
    assert set(TASKS) == set(Task)


def test_items_are_scored(app, worker):
    deliver(app, Task.SCORE, [3, "4"])
    assert worker.calls == [[3, 4]]


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


def test_a_process_prepares_one_requirement_at_a_time(app, monkeypatch):
    """Each loads a model of its own; a message that comes meanwhile does not wait in a thread."""
    begun, go_on, seen = threading.Event(), threading.Event(), []

    def prepare(builder, row_id, store, stopping):
        seen.append(row_id)
        begun.set()
        assert go_on.wait(30)

    monkeypatch.setattr(tasks, "prepare_pending", prepare)
    run = app.tasks[Task.PREPARE]
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(run, 1)
        assert begun.wait(30)
        run(2)
        go_on.set()
        first.result(30)
    run(3)
    assert seen == [1, 3]
