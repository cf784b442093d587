"""A training run whose processes are killed ends with the very bytes of one that was left alone."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.training import make_set

pytestmark = pytest.mark.timeout(900)  # a slow machine is not a failure
TESTS = Path(__file__).parents[2]


DEATHS = {"student": 9, "stage_teacher": 3}


@pytest.fixture(scope="module", params=DEATHS)
def report(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    done = subprocess.run(
        [sys.executable, "-m", "support.killed", request.param, make_set(folder / "set"), folder],
        cwd=TESTS,
        env=os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]) | {"kind": request.param}


def test_every_process_died_where_it_was_meant_to(report):
    assert {name: os.WTERMSIG(status) for name, status in report["deaths"].items()} == dict.fromkeys(
        report["deaths"], signal.SIGKILL
    )
    assert len(report["deaths"]) == DEATHS[report["kind"]]
    assert report["ends"] == {"whole": 0, "cut": 0}


def test_the_model_is_the_same_to_the_byte(report):
    assert report["cut"]["weights"] == report["whole"]["weights"]
    assert report["cut"]["card"] == report["whole"]["card"]


def test_the_log_tells_the_same_story(report):
    assert report["cut"]["log"] == report["whole"]["log"]
    assert [line["step"] for line in report["whole"]["log"] if "val_srcc" in line] == [4, 8, 12]
