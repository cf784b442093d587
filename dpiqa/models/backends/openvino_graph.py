"""A student's graph in OpenVINO, on a CPU: several pictures at once, each on some of its threads."""

from pathlib import Path
from typing import Any

import numpy as np
import openvino

from dpiqa.errors import ConfigurationError
from dpiqa.models.backends.graph import GraphScorer
from dpiqa.models.base import ModelCard
from dpiqa.text import reason_of
from dpiqa.types import Precision

_TYPES = {
    Precision.FLOAT32: openvino.Type.f32,
    Precision.BFLOAT16: openvino.Type.bf16,
    Precision.FLOAT16: openvino.Type.f16,
}


def open_graph(card: ModelCard, path: Path, *, device: str, threads: int | None) -> GraphScorer:
    """Open a graph.

    Args:
        card: the model.
        path: its ONNX file.
        device: `auto` or `cpu`.
        threads: CPU threads; None: as many as OpenVINO chooses.

    Raises:
        ConfigurationError: another device, a file that cannot be read, or a precision that this CPU does not have.
    """
    if device not in {"auto", "cpu"}:
        raise ConfigurationError(f"openvino runs on the CPU, not on {device}", hint="choose the device cpu, or compile")
    precision = _TYPES[card.precision]
    options: dict[str, Any] = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": precision}
    if threads is not None:
        options["INFERENCE_NUM_THREADS"] = threads
    try:
        compiled = openvino.Core().compile_model(path, "CPU", options)
    except RuntimeError as error:
        raise ConfigurationError(
            f"openvino cannot compute {card.name} in {card.precision}: {reason_of(error)}",
            hint="set DPIQA_BACKEND=eager",
        ) from error
    if compiled.get_property("INFERENCE_PRECISION_HINT") != precision:
        raise ConfigurationError(
            f"this CPU has no {card.precision} that openvino can use", hint="leave the precision out, or choose eager"
        )
    requests = openvino.AsyncInferQueue(compiled)
    scores: dict[int, float] = {}

    def keep(request: Any, number: int) -> None:
        scores[number] = float(request.get_output_tensor().data[0])

    requests.set_callback(keep)

    def infer(pixels: np.ndarray) -> np.ndarray:
        scores.clear()
        for number in range(len(pixels)):
            requests.start_async([pixels[number : number + 1]], userdata=number)
        requests.wait_all()
        return np.array([scores[number] for number in range(len(pixels))])

    return GraphScorer(card, infer)
