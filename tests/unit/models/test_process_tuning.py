"""Memory that is freed and kept, and threads that leave the processor to others."""

import gc
import os
import subprocess
import sys

import pytest

from dpiqa.process_tuning import without_collections


def test_glibc_is_asked_to_keep_what_is_freed():
    """In a process of its own: it cannot be taken back."""
    code = "import platform; from dpiqa.process_tuning import keep_buffers as k; print(platform.libc_ver()[0], k())"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert printed[-1] == str(printed[0] == "glibc")


_SCORE = """
import os, sys, time
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
import numpy as np
from dpiqa.models.loading import load_scorer
scorer = load_scorer("bundled-tiny", device="cpu", threads=2)
images = np.zeros((4, 512, 512, 3), np.uint8)
scorer.score(images)
print("ready", flush=True)
sys.stdin.readline()
started = time.process_time()
scorer.score(images)
print(time.process_time() - started)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity") or os.cpu_count() < 2, reason="two cores are shared")
def test_processes_that_share_cores_do_not_spin_them_away():
    """Processor time, which others on the machine hardly change. Without the limit it is several times as much."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}

    def seconds(n):
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", _SCORE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=environment,
            )
            for _ in range(n)
        ]
        for process in processes:
            while process.stdout.readline() != "ready\n":
                assert process.poll() is None
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        return max(float(process.communicate(timeout=120)[0]) for process in processes)

    assert seconds(3) < 4 * seconds(1)


@pytest.mark.parametrize("own", [{"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "PASSIVE"}])
def test_ones_own_settings_of_openmp_stay(own):
    code = (
        "import os; from dpiqa.process_tuning import limit_spinning as l; l(); print(os.environ.get('GOMP_SPINCOUNT'))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"], **own},
    ).stdout
    assert printed.strip() == own.get("GOMP_SPINCOUNT", "None")


def test_garbage_is_not_looked_for_meanwhile_and_then_as_before():
    with without_collections():
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    try:
        with without_collections():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
