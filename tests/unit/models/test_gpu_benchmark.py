import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "benchmarks/gpu.py"


@pytest.mark.timeout(300)  # it starts torch and its profiler
def test_the_table_of_a_gpu_can_be_tried_on_a_cpu():
    options = "--device cpu --tiny --dtype float32 --compiled no --student-batches 2 --teacher-batches 1 --repeats 2"
    done = subprocess.run(
        [sys.executable, SCRIPT, *options.split(), "--json"], capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, done.stderr
    table = json.loads(done.stdout)["rows"]
    assert [(row["network"], row["batch"], row["way"]) for row in table] == [
        (network, batch, f"float32, {layout}, eager")
        for network, batches in (("student", [2]), ("teacher", [1]))
        for layout in ("channels last", "channels first")
        for batch in batches
    ]
    for row in table:
        slowest, fastest = row["range"]
        assert 0 < slowest <= row["images_per_s"] <= fastest
        assert row["tflop_per_image"] >= 0
        assert "conv" in " ".join(entry["kernel"] for entry in row["kernels"])
        assert sum(entry["percent"] for entry in row["kernels"]) <= 100.5
