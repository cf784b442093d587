"""Several devices: a worker process each. The processes here are small programs in the place of workers."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from dpiqa.cli.system.devices import worker_commands
from dpiqa.errors import InvalidRequest
from dpiqa.settings import load_settings
from dpiqa.types import Stage


def test_each_device_has_a_worker_and_a_port_for_metrics_of_its_own():
    commands = worker_commands(load_settings(device="cuda:0, cuda:1", metrics_port=9100), Stage.TEACHER)
    environments = [environment for _, environment in commands]
    assert [e["DPIQA_DEVICE"] for e in environments] == ["cuda:0", "cuda:1"]
    assert [e["DPIQA_METRICS_PORT"] for e in environments] == ["9100", "9101"]
    names = [argv[argv.index("--hostname") + 1] for argv, _ in commands]
    assert len(set(names)) == 2


@pytest.mark.parametrize("device", ["cuda:0,cuda:0", "cuda:0,", ","])
def test_a_list_that_names_no_device_or_one_twice_is_refused(device):
    with pytest.raises(InvalidRequest, match="list of devices"):
        worker_commands(load_settings(device=device), Stage.STUDENT)


RUN = """
import sys
from dpiqa.cli.system.devices import run_each
child = [sys.executable, "-c", open(sys.argv[1]).read(), sys.argv[2]]
sys.exit(run_each([(child, {"DPIQA_DEVICE": name}) for name in ("fake:0", "fake:1")]))
"""


def run(folder, child):
    (folder / "child.py").write_text(textwrap.dedent(child))
    return subprocess.Popen([sys.executable, "-c", RUN, str(folder / "child.py"), str(folder)], start_new_session=True)


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_worker_that_ends_is_started_again_and_the_other_goes_on(tmp_path):
    process = run(
        tmp_path,
        """
        import os, pathlib, sys, time
        folder, device = pathlib.Path(sys.argv[1]), os.environ["DPIQA_DEVICE"]
        with (folder / device).open("a") as file:
            print(os.getpid(), file=file)
        first = len((folder / device).read_text().split()) == 1
        if device == "fake:0" and first:
            sys.exit(70)  # the device is lost
        time.sleep(60)
        """,
    )
    try:

        def pids(device):
            path = tmp_path / device
            return path.read_text().split() if path.exists() else []

        wait_until(lambda: len(pids("fake:0")) == 2 and len(pids("fake:1")) == 1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        for pid in pids("fake:0") + pids("fake:1"):
            with pytest.raises(ProcessLookupError):
                os.kill(int(pid), 0)
    finally:
        process.kill()
        process.wait()


def test_wrong_settings_end_all(tmp_path):
    process = run(
        tmp_path,
        """
        import os, sys, time
        if os.environ["DPIQA_DEVICE"] == "fake:1":
            sys.exit(78)
        time.sleep(60)
        """,
    )
    try:
        assert process.wait(30) == 78
    finally:
        process.kill()
        process.wait()
