"""Two processes share the batches of a run and end with the same weights."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(900)  # a slow machine is not a failure
TESTS = Path(__file__).parents[2]


def train(folder, what):
    """Return the two processes' reports."""
    done = subprocess.run(
        [sys.executable, "-m", "support.together", folder, what],
        cwd=TESTS,
        env=os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["ends"] == [0, 0], done.stderr
    return report["reports"]


def test_two_processes_are_one_run(tmp_path):
    first, second = train(tmp_path, "toy")
    assert (first["main"], second["main"]) == (True, False)
    assert first["weights"] == second["weights"]
    assert first["steps"] == 2 * (64 // 8 // 4)  # epochs of 8 batches, four to an update: two turns of two processes
    for epoch in range(2):
        batches = [rows for process in (first, second) for rows in process["seen"][4 * epoch : 4 * epoch + 4]]
        assert sorted(row for rows in batches for row in rows) == list(range(64))  # each picture once an epoch


def test_two_processes_hold_a_student_to_the_order_of_distorted_copies(tmp_path):
    first, second = train(tmp_path, "student")
    assert first["weights"] == second["weights"]
    assert first["steps"] == 2 * (16 // 4 // 2)
    entries = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert any(entry.get("distorted", 0) > 0 for entry in entries)
