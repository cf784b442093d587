import threading
import time

import pytest
import structlog

from dpiqa.doorbell import Task
from dpiqa.pipeline.maintenance import Maintenance


@pytest.fixture
def maintenance(monkeypatch):
    """Give the threads of a worker without a database: the bucket of a row is the first letter of its id."""
    monkeypatch.setattr(Maintenance, "_bucket_of", lambda self, task, row_id: row_id[0])
    made = Maintenance(None)
    yield made
    made.close()


def test_a_slow_bucket_holds_up_no_other(maintenance):
    hanging, listed = threading.Event(), threading.Event()
    begun = []
    for number in range(20):
        maintenance.start(Task.EXPAND, f"slow{number}", lambda: (begun.append(1), hanging.wait(20)))
    maintenance.start(Task.EXPAND, "good", listed.set)
    assert listed.wait(5)
    assert len(begun) == 2
    maintenance.start(Task.RECONCILE, "slow", (reconciled := threading.Event()).set)
    assert reconciled.wait(5)
    hanging.set()


def test_one_piece_of_work_is_done_once_at_a_time_and_a_requirement_alone(maintenance):
    """A requirement loads a model of its own."""
    go_on, seen = threading.Event(), []
    for row in (1, 1, 2, 1):
        maintenance.start(Task.PREPARE, row, lambda row=row: (seen.append(row), go_on.wait(20)))
    time.sleep(0.1)
    assert seen == [1]
    go_on.set()
    deadline = time.monotonic() + 5
    while len(seen) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert seen == [1, 2]


def test_an_error_is_logged_with_the_context_of_the_message(maintenance):
    with structlog.testing.capture_logs() as lines:
        maintenance.start(Task.REPORT, "r", lambda: 1 / 0)
        maintenance.close()
    assert [(line["event"], line["error"]) for line in lines] == [
        ("task_failed", "ZeroDivisionError: division by zero")
    ]
    maintenance.start(Task.REPORT, "later", lambda: None)  # the worker ends: nothing happens
