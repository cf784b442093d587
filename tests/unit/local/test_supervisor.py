import sys
import time

import pytest

from dpiqa.errors import ConfigurationError
from dpiqa.local import supervisor as module
from dpiqa.local.process import Command, spawn
from dpiqa.local.supervisor import Supervisor, Unit, UnitState, backoff_seconds


def unit(tmp_path, code, name="unit", is_ready=lambda _process: True, **options):
    command = Command(name=name, argv=[sys.executable, "-c", code], log=tmp_path / f"{name}.log", stop_seconds=5)
    return Unit(name, lambda: spawn(command), is_ready, **options)


@pytest.fixture
def supervisor():
    supervisor = Supervisor()
    yield supervisor
    supervisor.kill()


def tick_until(supervisor, condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        supervisor.tick()
        time.sleep(0.02)
    assert condition()


def test_backoff_doubles_up_to_its_bound():
    assert [backoff_seconds(n) for n in (0, 1, 2, 3, 10, 1000)] == [0.5, 1, 2, 4, 30, 30]


def test_a_crashed_process_is_restarted_and_gets_back_what_it_had(supervisor, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_BACKOFF_SECONDS", (0.05, 1))
    restarts = []
    supervised = unit(tmp_path, "import time; time.sleep(100)", after_restart=lambda: restarts.append(1))
    supervisor.start(supervised)
    assert supervised.state is UnitState.READY
    first = supervised.process
    first.popen.kill()
    tick_until(supervisor, lambda: supervised.state is UnitState.CRASHED)
    tick_until(supervisor, lambda: supervised.state is UnitState.READY)
    assert supervised.process.pid != first.pid
    assert (supervised.restarts, restarts) == (1, [1])


def test_a_check_that_fails_is_repeated_and_ends_nothing(supervisor, tmp_path):
    answers = [ConnectionError("the database does not answer"), ConnectionError("still not"), True]

    def is_ready(_process):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    supervised = unit(tmp_path, "import time; time.sleep(100)", is_ready=is_ready)
    supervisor.start(supervised)
    assert supervised.state is UnitState.STARTING
    assert supervised.check_error == "the database does not answer"
    tick_until(supervisor, lambda: supervised.state is UnitState.READY)
    assert supervised.check_error == ""


def test_a_restart_that_cannot_be_completed_is_repeated_with_a_new_process(supervisor, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_BACKOFF_SECONDS", (0.05, 1))
    processes = []

    def after_restart():
        processes.append(supervised.process)
        if len(processes) == 1:
            raise OSError("no space left on device")

    supervised = unit(tmp_path, "import time; time.sleep(100)", after_restart=after_restart)
    supervisor.start(supervised)
    supervised.process.popen.kill()
    tick_until(supervisor, lambda: len(processes) == 2 and supervised.state is UnitState.READY)
    assert not processes[0].alive
    assert processes[1].alive


def test_a_process_that_always_crashes_is_restarted_more_and_more_rarely(supervisor, tmp_path, monkeypatch):
    crashes_seen = []
    monkeypatch.setattr(module, "backoff_seconds", lambda crashes: crashes_seen.append(crashes) or 0.0)
    supervised = unit(tmp_path, "raise SystemExit(1)", is_ready=lambda _process: False)
    supervisor.start(supervised)
    tick_until(supervisor, lambda: len(crashes_seen) == 4)
    assert crashes_seen == [0, 1, 2, 3]


def test_a_first_start_that_fails_says_why(supervisor, tmp_path):
    supervised = unit(tmp_path, "print('no such port'); raise SystemExit(3)", is_ready=lambda _process: False)
    supervisor.start(supervised)
    with pytest.raises(ConfigurationError, match="unit ended with status 3: no such port"):
        supervisor.wait_ready([supervised], 30)


def test_a_start_that_takes_too_long_ends(supervisor, tmp_path):
    supervised = unit(tmp_path, "import time; time.sleep(100)", is_ready=lambda _process: False)
    supervisor.start(supervised)
    with pytest.raises(ConfigurationError, match=r"was not ready after 0 s"):
        supervisor.wait_ready([supervised], 0.3)


def test_stop_ends_servers_last_and_one_after_the_other(supervisor, tmp_path):
    code = """if True:
        import signal, sys, time
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        print('up', flush=True); time.sleep(100)"""
    order = []
    for name, server in (("database", True), ("store", True), ("worker", False), ("api", False)):
        log = tmp_path / f"{name}.log"
        supervised = unit(tmp_path, code, name, lambda _process, log=log: "up" in log.read_text(), server=server)
        supervisor.start(supervised)
        supervisor.wait_ready([supervised], 30)
    supervisor.changed = lambda: order.append(
        next(u.name for u in supervisor.units if u.name not in order and u.state is UnitState.STOPPED)
    )
    supervisor.stop()
    assert order == ["api", "worker", "store", "database"]
    assert not any(u.process.alive for u in supervisor.units)
