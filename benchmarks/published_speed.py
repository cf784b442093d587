"""Networks of published sizes with random weights: parameters, memory, ms per image, which do not depend on weights.

On a CPU the processor's time is what to compare on a busy machine: it does not count waiting for other programs.

    python benchmarks/published_speed.py --kinds student teacher promptiqa --threads 2
    python benchmarks/published_speed.py --kinds student --threads 1 --backend openvino --precision bfloat16
"""

import argparse
import json
import statistics
import sys
import time
from typing import cast

import numpy as np
import psutil
import torch
from machine import describe
from torch import nn

from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.models.backends.loading import by_backend
from dpiqa.models.base import ModelCard, Scorer
from dpiqa.models.networks import build_network
from dpiqa.models.promptiqa.network import PromptIQA
from dpiqa.models.promptiqa.scorer import PromptIQACheckpoint
from dpiqa.models.scoring_network import ScoringNetwork
from dpiqa.models.torch_scorer import choose_device, memory_format, ready_scorer
from dpiqa.requirement import PreparedRequirement
from dpiqa.types import Backend, Direction, ModelKind, Precision

CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
PAIRS = 10  # of PromptIQA's requirement: as its authors' demo


def random_network(kind: ModelKind, device: torch.device) -> tuple[ModelCard, nn.Module]:
    """Build a network of the published size."""
    side = 224 if kind is ModelKind.PROMPTIQA else 512
    card = ModelCard(
        name=f"random-{kind}",
        kind=kind,
        sha256="0" * 64,
        preprocessing=Preprocessing(width=side, height=side),
        channels_last=kind is not ModelKind.TEACHER,  # as the importer makes cards
        licence="none",
    )
    network = build_network(card).to_empty(device=device)
    with torch.no_grad():
        for name, tensor in (*network.named_parameters(), *network.named_buffers()):
            constant = name.endswith("running_var") or not tensor.is_floating_point()
            tensor.fill_(1) if constant else tensor.normal_(std=0.02)
    network = network.to(memory_format=memory_format(card)).eval().requires_grad_(requires_grad=False)
    return card, network


def load(kind: ModelKind, device: torch.device, options: argparse.Namespace) -> tuple[nn.Module, Scorer]:
    """Build the network and its scorer; a student's by the backend and in the precision of the options."""
    if kind is ModelKind.PROMPTIQA:
        model = random_promptiqa(device)
        features = np.zeros((PAIRS, model.network.config.width), dtype=np.float32)
        requirement = PreparedRequirement(
            name="none", version=1, base_scorer_id=model.card.scorer_id, features=features, direction=Direction.HIGHER
        )
        return model.network, model.scorer(requirement)
    card, network = random_network(kind, device)
    scoring = cast("ScoringNetwork", network)
    scoring.prepare()
    eager = ready_scorer(card, scoring, device)
    backend = options.backend if kind is ModelKind.STUDENT else Backend.EAGER
    if backend is Backend.EAGER:
        return scoring, eager
    chosen = card.model_copy(update={"backend": backend, "precision": options.precision})
    return scoring, by_backend(chosen, eager, device=options.device, threads=options.threads, cache_dir=None)


def random_promptiqa(device: torch.device) -> PromptIQACheckpoint:
    """Return a checkpoint of the published size."""
    card, network = random_network(ModelKind.PROMPTIQA, device)
    return PromptIQACheckpoint(card, cast("PromptIQA", network), device)


def measure(kind: ModelKind, options: argparse.Namespace) -> dict[str, object]:
    started = {clock: read() for clock, read in CLOCKS.items()}
    network, scorer = load(kind, choose_device(options.device), options)
    load_seconds = {f"load_{clock}_s": round(read() - started[clock], 1) for clock, read in CLOCKS.items()}
    parameters = sum(parameter.numel() for parameter in network.parameters())
    size = scorer.card.preprocessing
    shape = (options.batch, size.height, size.width, 3)
    rng = np.random.default_rng(0)
    times: dict[str, list[float]] = {clock: [] for clock in CLOCKS}
    for _ in range(options.repeats + 1):  # the first round warms up
        pixels = rng.integers(0, 256, shape, dtype=np.uint8)  # new ones: PromptIQA knows those it has seen
        started = {clock: read() for clock, read in CLOCKS.items()}
        scorer.score(pixels)
        for clock, read in CLOCKS.items():
            times[clock].append((read() - started[clock]) * 1000 / options.batch)
    return {
        "kind": kind.value,
        "backend": scorer.card.backend.value,
        "precision": scorer.card.precision.value,
        **load_seconds,
        "million_parameters": round(parameters / 1e6, 1),
        "batch": options.batch,
        "resident_gib": round(psutil.Process().memory_info().rss / 2**30, 1),
        **{
            f"{clock}_ms_per_image": {
                "median": round(statistics.median(spent[1:]), 1),
                "range": [round(min(spent[1:]), 1), round(max(spent[1:]), 1)],
            }
            for clock, spent in times.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = [ModelKind.STUDENT, ModelKind.TEACHER, ModelKind.PROMPTIQA]
    parser.add_argument("--kinds", nargs="+", type=ModelKind, default=kinds)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--device", default="auto")
    backends = [backend for backend in Backend if backend is not Backend.AUTO]
    parser.add_argument("--backend", type=Backend, choices=backends, default=Backend.EAGER, help="of the student")
    parser.add_argument(
        "--precision", type=Precision, choices=list(Precision), default=Precision.FLOAT32, help="of --backend"
    )
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    rows = [measure(kind, options) for kind in options.kinds]
    report = {"machine": describe(), "threads": options.threads, "repeats": options.repeats, "rows": rows}
    json.dump(report, sys.stdout, indent=2)


if __name__ == "__main__":
    main()
