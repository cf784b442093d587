"""The programs of `benchmarks/` run, in a small form: their figures count only while they measure what they say."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
PARTS = {"against_systems", "machine", "real_worker", "static_s3"}  #: what others start or import
SMALL = {
    "export": "--rows 50 100 --repeats 1 --formats parquet",
    "growth": "--items 2000",
    "install_size": "",
    "ledger": "--items 1000 --repeats 1",
    "load_results": "--results 20000 --folder {folder}",
    "measures": "--sizes 64x64 --repeats 1",
    "model_speed": "--models bundled-tiny --batches 1 --repeats 1",
    "pipeline": "--model brightness --images 16 --side 256 --repeats 1",
    "pixel_digests": "{photographs}",
    "reconcile": "--items 2000",
    "reuse": "--images 8 --repeats 1",
    "score_memory": "20 40",
    "shared_cores": "--model bundled-tiny --processes 1 --threads 1 --batch 1 --repeats 1",
    "sources": "--rows 2000",
    "submit": "--items 2000 --repeats 1",
    "training_speed": "--kinds vae --updates 1",
}
#: On the ledger that `load_results` leaves.
ON_LEDGER = {
    "pages": "--folder {folder} --rounds 1 --repeats 1 --only scores",
    "queries": "--folder {folder} --repeats 2 --only worst",
}
PROGRAMS = sorted({file.stem for file in FOLDER.glob("*.py")} - PARTS)


def run(name, arguments):
    argv = [sys.executable, FOLDER / f"{name}.py", *arguments.split()]
    env = {key: value for key, value in os.environ.items() if not key.startswith("DPIQA_")}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("name", sorted(SMALL))
def test_a_small_form_prints_figures(name, tmp_path):
    folder = tmp_path / "ledger"
    arguments = SMALL[name].format(folder=folder, photographs=FOLDER.parent / "docs/images")
    assert re.search(r"\d", run(name, arguments))
    if name == "load_results":
        for other, others in ON_LEDGER.items():
            rows = [line for line in run(other, others.format(folder=folder)).splitlines() if re.match(r"\|.*\d", line)]
            assert len(rows) >= 4


def test_each_program_has_help_and_a_row_in_the_table():
    table = (FOLDER / "README.md").read_text()
    for name in PROGRAMS:
        assert f"| `{name}.py" in table
        text = (FOLDER / f"{name}.py").read_text()
        assert "argparse.ArgumentParser(description=__doc__" in text, name
