"""A student's graph in ONNX Runtime, on a CPU or a GPU."""

from pathlib import Path

import numpy as np

from dpiqa.errors import ConfigurationError
from dpiqa.models.backends.graph import INPUT, OUTPUT, GraphScorer
from dpiqa.models.base import ModelCard
from dpiqa.models.onnx_scorer import open_session
from dpiqa.types import Precision


def open_graph(card: ModelCard, path: Path, *, device: str, threads: int | None) -> GraphScorer:
    """Open a graph. Arguments and errors as of `open_session`; `ConfigurationError` for less than float32, too."""
    if card.precision is not Precision.FLOAT32:
        raise ConfigurationError(
            f"onnxruntime computes students in float32 only, not in {card.precision}",
            hint="leave the precision out, or choose openvino or eager",
        )
    session = open_session(path, device=device, threads=threads)

    def infer(pixels: np.ndarray) -> np.ndarray:
        return np.concatenate([session.run([OUTPUT], {INPUT: pixels[n : n + 1]})[0] for n in range(len(pixels))])

    return GraphScorer(card, infer, "cuda" if session.get_providers()[0].startswith("CUDA") else "cpu")
