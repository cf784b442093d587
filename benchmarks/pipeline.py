"""Utilisation of the device by the pipeline: images/s from files to scores, against the model's bare forward pass.

python benchmarks/pipeline.py --model bundled-tiny --images 200 --side 1024
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from machine import describe
from model_speed import milliseconds
from PIL import Image, ImageFilter

from dpiqa.models.choice import ModelChoice
from dpiqa.models.loading import load_scorer
from dpiqa.objects.store import LocalFiles
from dpiqa.pipeline.local_run import score_objects
from dpiqa.pipeline.scorers import batch_size
from dpiqa.settings import load_settings
from dpiqa.types import ImageRef


def write_images(folder: Path, count: int, side: int) -> None:
    """Smooth noise: compresses like a photograph, unlike white noise."""
    rng = np.random.default_rng(0)
    for index in range(count):
        pixels = rng.integers(0, 256, (side // 4, side // 4, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).resize((side, side)).filter(ImageFilter.GaussianBlur(1))
        image.save(folder / f"{index:05}.jpg", quality=92)


def rounds(folder: Path, model: str, repeats: int) -> Iterator[float]:
    """Images per second of each round; the first one warms up and is left out."""
    settings = load_settings()
    for turn in range(repeats + 1):
        refs = [ImageRef(bucket="", key=str(path), etag="") for path in sorted(folder.glob("*.jpg"))]
        started = time.perf_counter()
        scored = sum(
            row.score is not None
            for row in score_objects(LocalFiles(), refs, choice=ModelChoice(model=model), settings=settings)
        )
        if scored != len(refs):
            sys.exit(f"{len(refs) - scored} images were not scored")
        if turn:
            yield scored / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bundled-tiny")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--side", type=int, default=1024, help="pixels a side of the JPEG files")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    settings = load_settings()
    scorer = load_scorer(options.model, device=settings.device, threads=settings.threads)
    batch = batch_size(scorer, settings)
    bare = 1000 / statistics.median(milliseconds(scorer, batch, 5))
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder), options.images, options.side)
        rates = list(rounds(Path(folder), options.model, options.repeats))
    print(describe())
    print(f"bare forward pass: {bare:.1f} images/s (batch {batch})")
    print(
        f"files to scores:   {statistics.median(rates):.1f} images/s "
        f"({min(rates):.1f} to {max(rates):.1f} in {len(rates)} rounds of {options.images}, start-up included), "
        f"{statistics.median(rates) / bare:.2f} of bare"
    )


if __name__ == "__main__":
    main()
