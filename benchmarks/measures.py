"""Cost of the measures of a picture: processor time of `dpiqa.measure`, and what they add to decoding one image.

python benchmarks/measures.py
"""

import argparse
import io
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from machine import describe
from PIL import Image

from dpiqa.imaging.decode import Limits, decode_and_measure, decode_and_prepare
from dpiqa.imaging.measures import measure
from dpiqa.imaging.preprocessing import Preprocessing

INPUT = Preprocessing(width=512, height=512)
LIMITS = Limits()


def photograph(width: int, height: int) -> Image.Image:
    """Make a picture with edges, gradients and grain."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (max(2, height // 40), max(2, width // 40), 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), dtype=float)
    grain = rng.normal(0, 4, (height, width, 1))
    return Image.fromarray(np.clip(picture + grain, 0, 255).astype(np.uint8))


def cpu_milliseconds(call: Callable[[], object], repeats: int) -> list[float]:
    """Return the processor time of each of `repeats` calls, sorted, after two to warm up."""
    times = []
    for repetition in range(repeats + 2):
        started = time.process_time_ns()
        call()
        if repetition >= 2:
            times.append((time.process_time_ns() - started) / 1e6)
    return sorted(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["512x512", "768x768", "4000x3000"], metavar="WIDTHxHEIGHT")
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    for size in options.sizes:
        width, height = map(int, size.split("x"))
        picture = photograph(width, height)
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=90)
        data = file.getvalue()
        calls: dict[str, Callable[[], object]] = {
            "measure": partial(measure, picture),
            "decode": partial(decode_and_prepare, data, INPUT, LIMITS),
            "decode and measure": partial(decode_and_measure, data, INPUT, LIMITS),
        }
        for name, call in calls.items():
            times = cpu_milliseconds(call, options.repeats)
            median, low, high = statistics.median(times), times[len(times) // 20], times[-1 - len(times) // 20]
            rows.append({"size": size, "step": name, "cpu_ms": median, "p5": low, "p95": high})
    report = {"machine": describe(), "repeats": options.repeats, "rows": rows}
    if options.json:
        json.dump(report, sys.stdout, indent=2)
        return
    print(report["machine"], f"repeats={options.repeats}")
    for row in rows:
        print("{size:>10}  {step:20} {cpu_ms:7.2f} CPU-ms  (p5 {p5:.2f} to p95 {p95:.2f})".format(**row))


if __name__ == "__main__":
    main()
