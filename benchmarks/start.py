"""Start of commands and of scoring, each in processes of their own: processor time, clock, memory, large imports.

    python benchmarks/start.py --repeats 5

Run it on an idle machine; memory does not depend on that. The first row is what torch itself costs, which depends on
its build: one with CUDA fills several times the memory of one without. The last row is a whole worker (Celery, the
ledger's connections, a decode process apart) that has scored a blank image and waits for its first one.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import static_s3
from machine import describe, end_on_sigterm
from PIL import Image
from real_worker import Bench

LARGE = ("torch", "torch._dynamo", "torchvision", "timm", "diffusers", "transformers", "scipy", "onnxruntime")
#: Prints memory (MiB) and large imports when a student is ready for its first image.
READY = f"""
import sys, psutil
from dpiqa.models.loading import load_scorer
load_scorer(sys.argv[1], device="cpu")
print(psutil.Process().memory_info().rss >> 20, *[name for name in {LARGE!r} if name in sys.modules])
"""


def measure(command: list[str], repeats: int) -> dict[str, object]:
    """Run a command `repeats` times, after once to fill the caches of the disk."""
    spent: list[tuple[float, float]] = []
    output = ""
    for _ in range(repeats + 1):
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        output = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ).stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        spent.append((processor, time.monotonic() - started))
    columns = [sorted(column) for column in zip(*spent[1:], strict=True)]
    row: dict[str, object] = {
        name: [round(value, 2) for value in (column[0], statistics.median(column), column[-1])]
        for name, column in zip(("processor_s", "clock_s"), columns, strict=True)
    }
    if command[1:2] == ["-c"] and output:
        memory, *imported = output.splitlines()[-1].split()  # above it is the log of loading
        row |= {"memory_mib": int(memory), "large_imports": imported}
    return row


def worker_memory(profile: str) -> dict[str, object]:
    """Start a worker of a built-in profile -> MiB of memory when it is ready: all, its share of it, and its own."""
    with static_s3.running(side=512) as url, Bench(url, batch_seconds=None, model=profile) as bench:
        memory = bench.worker.memory_full_info()
        return {f"{kind}_mib": getattr(memory, kind) >> 20 for kind in ("rss", "pss", "uss")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--model", default="bundled-student", help="the student")
    parser.add_argument("--profile", default="student-only", help="built-in profile of the worker")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    end_on_sigterm()
    dpiqa = str(Path(sys.executable).with_name("dpiqa"))
    with tempfile.TemporaryDirectory() as folder:
        picture = str(Path(folder) / "one.jpg")
        Image.effect_noise((512, 512), 64).convert("RGB").save(picture)
        commands = {
            "import torch": [sys.executable, "-c", "import torch"],
            f"{options.model} ready": [sys.executable, "-c", READY, options.model],
            "dpiqa --help": [dpiqa, "--help"],
            "dpiqa score one.jpg": [dpiqa, "score", picture],
        }
        rows = {name: measure(command, options.repeats) for name, command in commands.items()}
    rows[f"worker of {options.profile} ready"] = worker_memory(options.profile)
    report = {"machine": describe(), "repeats": options.repeats, "rows": rows}
    if options.json:
        json.dump(report, sys.stdout, indent=2)
        return
    print(report["machine"], f"repeats={options.repeats}; lowest, median, highest")
    for name, row in rows.items():
        print(f"{name:30}", *(f"{key}: {value}" for key, value in row.items()), sep="  ")


if __name__ == "__main__":
    main()
