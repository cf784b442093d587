"""Memory of `dpiqa score` for ever more images: does it grow with their number?

    python -m benchmarks.score_memory 2000 20000 --format csv

Tiny images (8x8 PNG, one file with many hard links, 1,000 in a folder) are scored by `brightness`, so that decoding and
the model take as little as they can. Prints the peak of the main process's resident memory for each number of images.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

FOLDER = 1000  #: images in a folder


def make_images(folder: Path, n: int) -> None:
    """Make a file and hard links to it."""
    first = folder / "first.png"
    Image.fromarray(np.full((8, 8, 3), 128, np.uint8)).save(first)
    source = first
    for number in range(n):
        below = folder / f"{number // FOLDER:05}"
        if number % FOLDER == 0:
            below.mkdir()
            source = below / "0.png"
            source.write_bytes(first.read_bytes())  # a file has a limited number of links
        else:
            os.link(source, below / f"{number}.png")
    first.unlink()


def peak(n: int, kind: str) -> tuple[float, float, int]:
    """Return the peak in MiB, the seconds, and the rows of the output."""
    with tempfile.TemporaryDirectory() as name:
        images, output = Path(name) / "images", Path(name) / f"scores.{kind}"
        images.mkdir()
        make_images(images, n)
        words = ["-m", "dpiqa.cli", "score", str(images), "--model", "brightness", "--output", str(output), "--resume"]
        started, most = time.monotonic(), 0
        with subprocess.Popen([sys.executable, *words], stderr=subprocess.DEVNULL) as process:
            seen = psutil.Process(process.pid)
            while process.poll() is None:
                with_peak = seen.memory_info().rss if seen.is_running() else 0
                most = max(most, with_peak)
                time.sleep(0.1)
        rows = output.read_bytes().count(b"\n") if kind != "parquet" else n
        return most / 2**20, time.monotonic() - started, rows


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("numbers", type=int, nargs="+", metavar="N", help="images of a run")
    parser.add_argument("--format", choices=("csv", "jsonl", "parquet"), default="csv")
    arguments = parser.parse_args()
    print("images   peak MiB   seconds   rows")
    for n in arguments.numbers:
        most, seconds, rows = peak(n, arguments.format)
        print(f"{n:>6,}   {most:8.1f}   {seconds:7.1f}   {rows:,}", flush=True)


if __name__ == "__main__":
    main()
