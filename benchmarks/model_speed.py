"""Bare forward pass of models: milliseconds per image by batch size, median and range of the repetitions.

python benchmarks/model_speed.py --models bundled-student bundled-tiny bundled-teacher --threads 2
"""

import argparse
import json
import statistics
import sys
import time

import numpy as np
from machine import describe

from dpiqa.models.base import Scorer
from dpiqa.models.loading import load_scorer
from dpiqa.types import Backend


def milliseconds(scorer: Scorer, batch: int, repeats: int) -> list[float]:
    """Time `repeats` calls after two to warm up -> ms per image of each."""
    size = scorer.card.preprocessing
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (batch, size.height, size.width, 3), dtype=np.uint8)
    times = []
    for repetition in range(repeats + 2):
        started = time.perf_counter()
        scorer.score(pixels)
        if repetition >= 2:
            times.append((time.perf_counter() - started) * 1000 / batch)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["bundled-student", "bundled-tiny", "bundled-teacher"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--threads", type=int, default=None, help="torch threads (default: torch decides)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--backend", type=Backend, choices=list(Backend), default=Backend.EAGER)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    for name in options.models:
        scorer = load_scorer(name, device=options.device, threads=options.threads, backend=options.backend)
        for batch in options.batches:
            times = milliseconds(scorer, batch, options.repeats)
            rows.append(
                {
                    "model": name,
                    "backend": scorer.card.backend.value,
                    "batch": batch,
                    "ms_per_image": round(statistics.median(times), 1),
                    "min": round(min(times), 1),
                    "max": round(max(times), 1),
                }
            )
    report = {"machine": describe(), "threads": options.threads, "repeats": options.repeats, "rows": rows}
    if options.json:
        json.dump(report, sys.stdout, indent=2)
        return
    print(report["machine"], f"threads={options.threads} repeats={options.repeats}")
    for row in rows:
        print("{model:20} {backend:11} batch {batch:3}  {ms_per_image:8.1f} ms/image  ({min} to {max})".format(**row))


if __name__ == "__main__":
    main()
