"""Several processes that compute on the same cores: milliseconds per image, by how long waiting threads spin.

python benchmarks/shared_cores.py --processes 1 2

Each process has as many threads as there are cores (`--threads`). `limited` is what dpiqa sets where nothing else is
(`dpiqa.process_tuning.limit_spinning`), 300000 is libgomp's own number of spins, `passive` is OMP_WAIT_POLICY=PASSIVE.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

import numpy as np
from machine import describe, end_on_sigterm

from dpiqa.models.loading import load_scorer
from dpiqa.types import Backend

SETTINGS = {"limited": {}, "300000": {"GOMP_SPINCOUNT": "300000"}, "passive": {"OMP_WAIT_POLICY": "PASSIVE"}}


def score(model: str, backend: Backend, threads: int, batch: int, repeats: int) -> None:
    """Be one of the processes: say when the model is loaded, wait for a line, print milliseconds per image."""
    scorer = load_scorer(model, device="cpu", threads=threads, backend=backend)
    size = scorer.card.preprocessing
    pixels = np.random.default_rng(0).integers(0, 256, (batch, size.height, size.width, 3), dtype=np.uint8)
    scorer.score(pixels)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    started, used = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        scorer.score(pixels)
    n = batch * repeats / 1000
    sys.stdout.write(json.dumps([(time.perf_counter() - started) / n, (time.process_time() - used) / n]) + "\n")


def together(n: int, arguments: list[str], setting: dict[str, str]) -> dict[str, float]:
    """Run `n` processes at once -> medians of their milliseconds per image, on the clock and of the processor."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    command = [sys.executable, __file__, *arguments, "--process"]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment | setting)
        for _ in range(n)
    ]
    for process in processes:
        assert process.stdin is not None
        assert process.stdout is not None
        while (line := process.stdout.readline()) != "ready\n":
            if not line:
                sys.exit("a process ended before it had loaded its model")
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    figures = [json.loads(process.communicate()[0].splitlines()[-1]) for process in processes]
    clock, cpu = (statistics.median(values) for values in zip(*figures, strict=True))
    return {"clock_ms": round(clock, 1), "cpu_ms": round(cpu, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bundled-student")
    parser.add_argument("--backend", type=Backend, choices=list(Backend), default=Backend.EAGER)
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each process")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=4, help="batches of each process")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.process:
        score(options.model, options.backend, options.threads, options.batch, options.repeats)
        return
    end_on_sigterm()
    arguments = ["--model", options.model, "--backend", options.backend.value, "--threads", str(options.threads)]
    arguments += ["--batch", str(options.batch), "--repeats", str(options.repeats)]
    rows = [
        {"processes": n, "spinning": name, **together(n, arguments, setting)}
        for _ in range(options.rounds)
        for n in options.processes
        for name, setting in SETTINGS.items()
    ]
    if options.json:
        print(json.dumps({"machine": describe(), "threads": options.threads, "rows": rows}, indent=1))
        return
    print("| processes | spinning | ms per image | processor ms per image |")
    print("|---|---|---|---|")
    for row in rows:
        print(f"| {row['processes']} | {row['spinning']} | {row['clock_ms']} | {row['cpu_ms']} |")


if __name__ == "__main__":
    main()
