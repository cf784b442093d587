"""Requirements of PromptIQA at the published size: making one of ten pairs, and scoring pictures by several.

python benchmarks/requirements.py --requirements 1 3 --images 4 --threads 2

The weights are random, which the time does not depend on; the pictures are noise, each one new. Printed for each step:
seconds and processor seconds, per pair or picture, median and range of the rounds.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from machine import describe
from published_speed import random_promptiqa

from dpiqa.models.promptiqa.scorer import PromptIQACheckpoint
from dpiqa.models.torch_scorer import choose_device
from dpiqa.requirement import Pair, PreparedRequirement
from dpiqa.requirements.checks import check
from dpiqa.requirements.pair_images import PairImages
from dpiqa.types import Direction


def pictures(model: PromptIQACheckpoint, count: int) -> np.ndarray:
    """Return noise, (count, H, W, 3) uint8, that the model has not seen."""
    size = model.card.preprocessing
    return np.random.default_rng().integers(0, 256, (count, size.height, size.width, 3), dtype=np.uint8)


def make_requirement(model: PromptIQACheckpoint, n_pairs: int) -> np.ndarray:
    """Check pairs as `dpiqa requirements create` does; return their prompt features."""
    pairs = [Pair(f"/{index}.png", index / n_pairs) for index in range(n_pairs)]
    images = PairImages(pictures(model, n_pairs), tuple(map(str, range(n_pairs))))
    return check(pairs, images, model, force=True).features


def score_by(model: PromptIQACheckpoint, features: np.ndarray, n_requirements: int, n_images: int) -> None:
    """Score new pictures, one at a time, by several requirements."""
    scorers = [
        model.scorer(
            PreparedRequirement(
                name="random",
                version=version,
                base_scorer_id=model.card.scorer_id,
                features=features[: len(features) - version],
                direction=Direction.HIGHER,
            )
        )
        for version in range(1, n_requirements + 1)
    ]
    for pixels in pictures(model, n_images):
        for scorer in scorers:
            scorer.score(pixels[None])


def timed(step: Callable[[], object], per: int, repeats: int) -> dict[str, object]:
    """Time `repeats` rounds -> seconds per pair or picture."""
    clocks = {"seconds": time.perf_counter, "processor_seconds": time.process_time}
    spent: dict[str, list[float]] = {clock: [] for clock in clocks}
    for _ in range(repeats):
        started = {clock: read() for clock, read in clocks.items()}
        step()
        for clock, read in clocks.items():
            spent[clock].append((read() - started[clock]) / per)
    return {
        clock: {"median": round(statistics.median(values), 3), "range": [round(min(values), 3), round(max(values), 3)]}
        for clock, values in spent.items()
    }


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--requirements", type=int, nargs="+", default=[1, 3], help="numbers of them to score by")
    parser.add_argument("--images", type=int, default=2, help="pictures to score in each round")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = choose_device(options.device)
    model = random_promptiqa(device)
    features = make_requirement(model, options.pairs)  # warms up, too
    rows = {
        f"make one of {options.pairs} pairs, per pair": timed(
            lambda: make_requirement(model, options.pairs), options.pairs, options.repeats
        )
    }
    for number in options.requirements:
        rows[f"score by {number}, per picture"] = timed(
            partial(score_by, model, features, number, options.images), options.images, options.repeats
        )
    json.dump(
        {"machine": describe(), "device": str(device), "threads": options.threads, "rows": rows}, sys.stdout, indent=2
    )


if __name__ == "__main__":
    main()
