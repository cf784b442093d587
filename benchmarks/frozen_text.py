"""Savings of computing a teacher's cross-attention keys and values once per checkpoint instead of once per batch.

The weights are random: neither speed nor difference depends on them. The difference is that of the scores of both ways,
which are timed in turns, so that other load on the machine falls on both. On a CPU the processor's
time is what to compare, summed over threads: it does not count waiting for other programs.

    python benchmarks/frozen_text.py --prompts 1485 --threads 2
"""

import argparse
import json
import statistics
import sys
import time

import torch
from diffusers.models.attention_processor import Attention
from machine import describe

from dpiqa.models.conditioning import freeze_text
from dpiqa.models.teacher import Teacher, TeacherConfig, build_teacher


def projections(teacher: Teacher) -> list[tuple[Attention, torch.nn.Module, torch.nn.Module]]:
    """Return every cross-attention with its present key and value projections."""
    attentions = [module for module in teacher.unet.modules() if getattr(module, "is_cross_attention", False)]
    return [(attention, attention.to_k, attention.to_v) for attention in attentions]


def put(layers: list[tuple[Attention, torch.nn.Module, torch.nn.Module]]) -> None:
    for attention, key, value in layers:
        attention.to_k, attention.to_v = key, value


def measure(teacher: Teacher, images: torch.Tensor, repeats: int) -> dict[str, object]:
    original = projections(teacher)
    freeze_text(teacher.unet, teacher.conditioning())
    ways = {"each_batch": original, "once": projections(teacher)}
    clocks = {"wall": time.perf_counter, "processor": time.process_time}
    times: dict[str, dict[str, list[float]]] = {clock: {way: [] for way in ways} for clock in clocks}
    scores = {}
    for _ in range(repeats + 1):  # the first round warms up
        for way, layers in ways.items():
            put(layers)
            started = {clock: read() for clock, read in clocks.items()}
            scores[way] = teacher(images)[0].tolist()  # waits for the device
            for clock, read in clocks.items():
                times[clock][way].append((read() - started[clock]) * 1000 / len(images))
    return {f"{clock}_ms_per_image": compare(times[clock]) for clock in clocks} | {
        "largest_score_difference": max(abs(a - b) for a, b in zip(*scores.values(), strict=True)),
    }


def compare(times: dict[str, list[float]]) -> dict[str, object]:
    """Return median and range of each way without its first round, and the savings of the second way."""
    median = {way: statistics.median(spent[1:]) for way, spent in times.items()}
    return {
        "median": {way: round(value, 1) for way, value in median.items()},
        "range": {way: [round(min(spent[1:]), 1), round(max(spent[1:]), 1)] for way, spent in times.items()},
        "saved_percent": round(100 * (1 - median["once"] / median["each_batch"]), 1),
    }


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", default="{}", help="JSON of a TeacherConfig (default: the published sizes)")
    parser.add_argument("--prompts", type=int, default=1485)
    parser.add_argument("--batches", nargs="+", type=int, default=[1])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    config = TeacherConfig.model_validate({"prompt_count": options.prompts} | json.loads(options.architecture))
    with torch.device(options.device):
        teacher = build_teacher(config).eval()
        if config.prompts is None:
            teacher.prompts.get_buffer("embeddings").normal_(std=0.5)
        rows = [
            {"batch": batch}
            | measure(teacher, torch.rand(batch, 3, config.input_size, config.input_size), options.repeats)
            for batch in options.batches
        ]
    report = {"machine": describe(), "threads": options.threads, "repeats": options.repeats, "rows": rows}
    json.dump(report, sys.stdout, indent=2)


if __name__ == "__main__":
    main()
