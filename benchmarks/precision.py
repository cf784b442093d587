"""Costs and savings of less precision: each model in each precision and memory format, against its float32 scores.

python benchmarks/precision.py --data labels.csv --split val --threads 1 --json

Prints score differences (largest, mean), SRCC against float32 and against MOS, and quartiles of milliseconds per image.
`--sample` takes about so many images, evenly spread, for all but plain float32: in less precision a CPU without
instructions for it is slow.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import structlog
from machine import describe
from scipy.stats import spearmanr

from dpiqa.datasets import load_dataset
from dpiqa.datasets.spec import LabelledImage
from dpiqa.imaging.decode import Limits, decode_and_prepare
from dpiqa.models.base import Scorer
from dpiqa.models.choice import ModelChoice
from dpiqa.models.loading import load_scorer
from dpiqa.types import Precision

#: (precision, channels last); the others are compared with the first.
VARIANTS = [
    (Precision.FLOAT32, True),
    (Precision.FLOAT32, False),
    (Precision.BFLOAT16, True),
    (Precision.FLOAT16, True),
]


def score_all(scorer: Scorer, images: list[LabelledImage], batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Score the images' files -> scores (N,), and (batches, 2) ms per image of full batches, decoding not counted.

    The times are by the clock and by the processor: on a machine that others use, only the second is the model's own.
    """
    scores, times = [], []
    for start in range(0, len(images), batch):
        block = images[start : start + batch]
        prepared = [decode_and_prepare(image.path.read_bytes(), scorer.card.preprocessing, Limits()) for image in block]
        started = np.array([time.perf_counter(), time.process_time()])
        scores.append(scorer.score(np.stack(prepared)))
        if len(block) == batch:
            times.append((np.array([time.perf_counter(), time.process_time()]) - started) * 1000 / batch)
    return np.concatenate(scores), np.array(times)


def compare(scores: np.ndarray, exact: np.ndarray, mos: np.ndarray) -> dict[str, float]:
    """`scores`, `exact` (float32) and `mos`, all (N,) -> the figures of one row."""
    difference = np.abs(scores - exact)
    return {
        "n": len(scores),
        "max_difference": float(f"{difference.max():.2g}"),
        "mean_difference": float(f"{difference.mean():.2g}"),
        "srcc_float32": round(float(spearmanr(scores, exact).statistic), 5),
        "srcc_mos": round(float(spearmanr(scores, mos).statistic), 4),
        "srcc_mos_of_float32": round(float(spearmanr(exact, mos).statistic), 4),
    }


def measure(name: str, images: list[LabelledImage], options: argparse.Namespace) -> list[dict[str, object]]:
    """Run all variants of one model -> one row each."""
    rows: list[dict[str, object]] = []
    exact = np.empty(0)
    for precision, channels_last in VARIANTS:
        choice = ModelChoice(model=name, precision=precision, channels_last=channels_last)
        scorer = load_scorer(choice, device=options.device, threads=options.threads, models_dir=options.models_dir)
        every = max(1, len(images) // options.sample) if rows and options.sample else 1
        scores, times = score_all(scorer, images[::every], options.batch)
        if not rows:
            exact = scores
        mos = np.array([image.mos for image in images[::every]])
        row: dict[str, object] = {
            "scorer": scorer.card.scorer_id,
            "precision": precision.value,
            "channels_last": channels_last,
        }
        row |= compare(scores, exact[::every], mos)
        for column, clock in enumerate(("ms_per_image", "cpu_ms_per_image")):
            row[clock] = [round(float(value), 1) for value in np.quantile(times[:, column], [0.25, 0.5, 0.75])]
        rows.append(row)
        print(json.dumps(row), file=sys.stderr, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="labels.csv")
    parser.add_argument("--split", default="val")
    parser.add_argument("--models", nargs="+", default=["bundled-student", "bundled-tiny", "bundled-teacher"])
    parser.add_argument("--models-dir", type=Path)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--sample", type=int, help="images for all but plain float32 (default: all)")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # stdout is the report's
    images = [image for image in load_dataset("csv", options.data).images if image.split == options.split]
    rows = [row for name in options.models for row in measure(name, images, options)]
    report = {"machine": describe(), "command": " ".join(sys.argv), "split": options.split, "rows": rows}
    if options.json:
        json.dump(report, sys.stdout, indent=2)
        return
    print(report["machine"], f"threads={options.threads} batch={options.batch}")
    columns = [name for name in rows[0] if name not in ("precision", "channels_last")]
    print("| " + " | ".join(columns) + " |", "|" + "---|" * len(columns), sep="\n")
    for row in rows:
        print("| " + " | ".join(str(row[name]) for name in columns) + " |")


if __name__ == "__main__":
    main()
