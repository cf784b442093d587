"""Pipeline efficiency: from objects in an S3 server to results in Postgres, against the bare model in the same run.

python benchmarks/efficiency.py --json figures.json

One real student worker with its defaults (Celery, S3 over HTTP, decode processes, the ledger), see `real_worker.py`.
The simulated device takes a set time per batch of 16 and holds no processor. Cases:

- `512`: 512 x 512 JPEGs; `tenfold`: ten times as many, by the same worker
- `512-30ms`: each answer of the S3 server comes 30 ms later
- `2mp`: 1414 x 1414 JPEGs
- `student`: a bundled student on this CPU, that of `--profile`, 512 x 512 JPEGs
- `live`: an event on an idle system, until its result can be read; the model takes no time

Whole: all images by the time from the submission to the last result. Steady: those after the first transaction, by the
time after it: without the start. Processor time is that of whole processes, per image. Memory: of the worker and its
decode processes, the highest of the last quarter of the run against the first.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import static_s3
from machine import describe, end_on_sigterm
from real_worker import Bench
from sqlalchemy import text

from dpiqa.events import Parsed
from dpiqa.local.ports import free_port
from dpiqa.pipeline.ingest import ingest
from dpiqa.profiles import load_profile
from dpiqa.storage.engine import transaction
from dpiqa.storage.jobs import ensure_watch
from dpiqa.types import ImageRef

BATCH = 16
BARE = """
import sys, time, numpy as np
from dpiqa.models.loading import load_scorer
scorer = load_scorer(sys.argv[2], device="auto")
pixels = np.random.default_rng(0).integers(0, 256, (16, 512, 512, 3), dtype=np.uint8)
for _ in range(2):
    scorer.score(pixels)
n, began = 0, time.perf_counter()
while time.perf_counter() - began < float(sys.argv[1]):
    scorer.score(pixels)
    n += 16
print(n / (time.perf_counter() - began))
"""


@contextmanager
def system(*, side: int, latency_ms: float = 0, **options: Any) -> Iterator[tuple[Bench, psutil.Process]]:
    """Give a running system, and the process of its S3 server."""
    with static_s3.running(side=side, latency_ms=latency_ms) as url:
        children = psutil.Process().children()
        s3 = next(child for child in children if any("static_s3" in word for word in child.cmdline()))
        with Bench(url, metrics_port=free_port(), **options) as bench:
            yield bench, s3


def run(bench: Bench, s3: psutil.Process, n: int, bare: float) -> dict[str, Any]:
    """Score `n` objects; return rates, shares of the bare rate, processor times and memory."""
    names = {"model": 'dpiqa_stage_seconds_sum{step="model"}', "fill": "dpiqa_batch_images_sum"}
    places = "dpiqa_batch_places_total"
    before = {name: bench.metric(name) for name in (*names.values(), places)}
    cpu, began = bench.cpu_seconds(s3), time.time()
    job = bench.submit(n)
    memory = [bench.rss() for _ in bench.wait(job, n)]
    seconds = time.time() - began
    after = {name: bench.metric(name) - value for name, value in before.items()}
    spent = {name: 1000 * (now - cpu[name]) / n for name, now in bench.cpu_seconds(s3).items()}
    times = bench.result_times(job)
    first = [at for at in times if at - times[0] < 0.01]
    steady = (n - len(first)) / (times[-1] - times[0])
    whole = n / (times[-1] - began)
    quarter = max(1, len(memory) // 4)
    return {
        "images": n,
        "bare_per_s": bare,
        "whole_per_s": whole,
        "whole_of_bare": whole / bare,
        "steady_per_s": steady,
        "steady_of_bare": steady / bare,
        "device_busy": after[names["model"]] / seconds,
        "batch_fill": after[names["fill"]] / max(after[places], 1),
        "cpu_ms_per_image": {**spent, "sum": sum(spent.values())},
        "rss_mb": max(memory[:quarter]) / 1e6,
        "rss_growth": max(memory[-quarter:]) / max(memory[:quarter]) - 1,
    }


def simulated(side: int, rate: float, sizes: list[int], latency_ms: float = 0) -> list[dict[str, Any]]:
    """Run jobs of these numbers of images one after another; before them one that warms up."""
    seconds = BATCH / rate
    began = time.perf_counter()
    for _ in range(20):
        time.sleep(seconds)
    bare = 20 * BATCH / (time.perf_counter() - began)  # a sleep is a little longer than asked for
    with system(side=side, latency_ms=latency_ms, batch_seconds=seconds) as (bench, s3):
        run(bench, s3, 200, bare)
        return [run(bench, s3, n, bare) for n in sizes]


def student(n: int, profile: str) -> dict[str, Any]:
    """Run the student of a built-in profile; its bare rate is measured before and after, alone on the machine."""
    model = load_profile(profile).student.model

    def bare(seconds: float = 8) -> float:
        command = [sys.executable, "-c", BARE, str(seconds), model]
        return float(subprocess.check_output(command, text=True).split()[-1])

    before = bare()
    with system(side=512, batch_seconds=None, model=profile) as (bench, s3):
        run(bench, s3, 64, before)
        figures = run(bench, s3, n, before)
    after = bare()
    rate = (before + after) / 2
    return figures | {
        "bare_per_s": rate,
        "bare_before_and_after": [before, after],
        "whole_of_bare": figures["whole_per_s"] / rate,
        "steady_of_bare": figures["steady_per_s"] / rate,
    }


def live(n: int) -> dict[str, Any]:
    """Send an event every 0.15 s to an idle system; return the milliseconds until each result can be read."""
    query = text("SELECT count(*) FROM results WHERE bucket = 'bench' AND key = :key")
    times = []
    objects = static_s3.Connection([static_s3.picture(seed, 512) for seed in range(static_s3.PICTURES)], 0)
    with system(side=512, batch_seconds=0) as (bench, _):
        with transaction(bench.engine) as c:
            ensure_watch(c, "bench", "live-1000000/", bench.profile)
        for number in range(n + 5):
            key = f"live-1000000/{number:06}.jpg"
            body = objects.body(key)
            event = Parsed(images=[ImageRef(bucket="bench", key=key, etag=static_s3.etag(body), size=len(body))])
            began = time.perf_counter()
            ingest(bench.engine, bench.doorbell, [event], bench.settings, bench.profile)
            with bench.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as c:
                while not c.execute(query, {"key": key}).scalar_one() and time.perf_counter() - began < 20:
                    time.sleep(0.004)
            times.append(1000 * (time.perf_counter() - began))
            time.sleep(0.15)
    times = sorted(times[5:])
    return {
        "events": n,
        "median_ms": statistics.median(times),
        "p99_ms": times[min(len(times) - 1, int(0.99 * len(times)))],
        "max_ms": times[-1],
    }


def main() -> None:
    """Print a line per case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cases = ("512", "512-30ms", "2mp", "student", "live")
    parser.add_argument("--cases", nargs="+", choices=cases, default=cases)
    parser.add_argument("--rate", type=float, default=200, help="images per second of the simulated device")
    parser.add_argument("--rate-2mp", type=float, default=200, help="of the device for 1414 x 1414 pixels")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--profile", default="student-only", help="built-in profile of the case `student`")
    parser.add_argument("--json", type=argparse.FileType("w"), help="also write the figures here")
    options = parser.parse_args()
    end_on_sigterm()
    figures: dict[str, Any] = {"machine": describe()}
    print(figures["machine"])
    n = options.images
    for case in options.cases:
        match case:
            case "512":
                figures[case], figures["tenfold"] = simulated(512, options.rate, [n, 10 * n])
            case "512-30ms":
                (figures[case],) = simulated(512, options.rate, [2 * n], latency_ms=30)
            case "2mp":
                (figures[case],) = simulated(1414, options.rate_2mp, [n])
            case "student":
                figures[case] = student(n // 2, options.profile)
            case "live":
                figures[case] = live(100)
        for name in (case, "tenfold") if case == "512" else (case,):
            print(name, json.dumps(figures[name], default=lambda value: round(value, 3)), flush=True)
    if options.json:
        json.dump(figures, options.json, indent=2)


if __name__ == "__main__":
    main()
