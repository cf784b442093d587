import threading
import time

import pytest

from dpiqa.errors import BrokerUnavailable, ConfigurationError, DatabaseUnavailable, Unavailable
from dpiqa.retries import retry_delay, retry_transaction, retry_until_available


def failing(times, error):
    """Return a step that raises `error` a number of times, then returns how often it was called."""
    calls = []

    def step():
        calls.append(1)
        if len(calls) <= times:
            raise error
        return len(calls)

    return step


def test_delays_grow_are_bounded_and_differ():
    for attempt in range(1, 200):
        whole = min(300, 2 * 2 ** (attempt - 1))
        assert whole / 2 <= retry_delay(attempt) <= whole
    assert len({retry_delay(5) for _ in range(20)}) > 1


def test_a_step_is_tried_until_what_it_needs_is_available():
    step = failing(3, BrokerUnavailable("the broker does not answer"))
    assert retry_until_available(step, event="waiting", base=0.001) == 4


def test_an_error_that_waiting_does_not_help_is_raised_at_once():
    with pytest.raises(ConfigurationError):
        retry_until_available(failing(3, ConfigurationError("wrong")), event="waiting")


def test_waiting_ends_soon_after_the_process_is_told_to_stop():
    stopping = threading.Event()
    threading.Timer(0.2, stopping.set).start()
    started = time.monotonic()
    with pytest.raises(Unavailable):
        retry_until_available(failing(99, Unavailable("down")), event="waiting", base=30, cap=30, stopping=stopping)
    assert time.monotonic() - started < 5


def test_a_transaction_is_given_up_after_its_attempts():
    step = failing(99, DatabaseUnavailable("down"))
    with pytest.raises(DatabaseUnavailable):
        retry_transaction(step, attempts=3, max_wait=0.01)
    assert step.__closure__[0].cell_contents == [1, 1, 1]
