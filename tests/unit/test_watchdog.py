import threading
import time

import pytest
from structlog.testing import capture_logs

from dpiqa.watchdog import LOOP_STUCK, Watchdog, beat


@pytest.fixture
def exits():
    return []


@pytest.fixture
def watchdog(exits):
    return Watchdog(exits.append, tick_seconds=0.02)


def wait_until(condition, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_loop_that_does_not_come_round_ends_the_process(watchdog, exits):
    released = threading.Event()

    def loop():
        with watchdog.watch("feeder", 0.2):
            released.wait(10)

    with capture_logs() as lines:
        thread = threading.Thread(target=loop)
        thread.start()
        wait_until(lambda: exits)
        released.set()
        thread.join()
    assert exits == [LOOP_STUCK]
    assert [(line["event"], line["loop"]) for line in lines] == [("loop_stuck", "feeder")]
    assert "released.wait" in str(lines) or "in loop" in str(lines)  # where it hangs


def test_a_loop_that_beats_goes_on(watchdog, exits):
    with watchdog.watch("leases", 0.2):
        for _ in range(30):
            time.sleep(0.02)
            beat()
    time.sleep(0.3)
    assert exits == []


def test_a_step_inside_a_loop_has_its_own_limit_and_exit_code(watchdog, exits):
    with watchdog.watch("chunk", 0.1):
        with watchdog.watch("device", 60, 71):
            time.sleep(0.4)
        assert exits == []
        with watchdog.watch("device", 0.1, 71):
            wait_until(lambda: exits)
    assert exits == [71]


def test_a_beat_without_a_loop_is_harmless():
    beat()


def test_a_process_that_was_stopped_as_a_whole_is_not_ended(monkeypatch, exits):
    skew = [0.0]
    real = time.monotonic
    monkeypatch.setattr("dpiqa.watchdog.time.monotonic", lambda: real() + skew[0])
    watchdog = Watchdog(exits.append, tick_seconds=0.05)
    with watchdog.watch("feeder", 5):
        time.sleep(0.2)
        skew[0] = 3600  # SIGSTOP, or the machine slept
        time.sleep(0.3)
        assert exits == []
