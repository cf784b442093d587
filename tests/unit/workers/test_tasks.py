"""What a task does beyond calling the library."""

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

from celery import Celery
from dpiqa.workers import tasks

from dpiqa.doorbell import Task


def test_a_process_prepares_one_requirement_at_a_time(monkeypatch):
    """Each loads a model of its own; a bell that comes meanwhile is not kept waiting in a thread."""
    begun, go_on, seen = threading.Event(), threading.Event(), []

    def prepare(shop, row_id, store, stopping):
        seen.append(row_id)
        begun.set()
        assert go_on.wait(30)

    monkeypatch.setattr(tasks, "prepare_pending", prepare)
    room = SimpleNamespace(engine=None, decoder=None, settings=None, store=None, stopping=None)
    app = Celery(set_as_current=False)
    tasks.register(app, lambda: room)
    run = app.tasks[Task.PREPARE]
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(run, 1)
        assert begun.wait(30)
        run(2)
        go_on.set()
        first.result(30)
    run(3)
    assert seen == [1, 3]
