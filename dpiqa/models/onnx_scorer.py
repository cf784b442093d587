"""Scorers whose networks are ONNX files: the older release of the published student. Free of torch."""

from pathlib import Path
from typing import cast

import numpy as np
import onnxruntime
import structlog
from onnxruntime.capi import onnxruntime_pybind11_state as failures

from dpiqa.errors import CheckpointError, ConfigurationError
from dpiqa.models.base import ModelCard, Scorer
from dpiqa.models.brightness import require_shape

log = structlog.get_logger()
UNREADABLE = (failures.InvalidProtobuf, failures.InvalidGraph, failures.NoSuchFile, failures.Fail)


class OnnxScorer:
    """One input (B, 3, H, W) float32 in [0, 1], B possibly fixed to 1; the score is the output of one value an image.

    Not thread-safe.
    """

    def __init__(self, card: ModelCard, session: onnxruntime.InferenceSession) -> None:
        self.card, self._session = card, session
        inputs = session.get_inputs()
        wanted = [3, card.preprocessing.height, card.preprocessing.width]
        if len(inputs) != 1 or inputs[0].type != "tensor(float)" or not _fits(inputs[0].shape, wanted):
            given = ", ".join(f"{one.name} {one.type} {one.shape}" for one in inputs)
            raise CheckpointError(
                f"{card.name}: expected one float32 input of shape (B, 3, {wanted[1]}, {wanted[2]}), found {given}",
                hint="the file is another model, or its card gives another input size",
            )
        self._input = inputs[0].name
        self._one_by_one = inputs[0].shape[0] == 1

    def score(self, pixels: np.ndarray) -> np.ndarray:
        """See `Scorer.score`."""
        require_shape(pixels, self.card)
        images = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), dtype=np.float32) / 255
        parts = np.split(images, len(images)) if self._one_by_one and len(images) > 1 else [images]
        return np.concatenate([self._scores(part) for part in parts])

    def _scores(self, images: np.ndarray) -> np.ndarray:
        outputs = cast("list[np.ndarray]", self._session.run(None, {self._input: images}))
        for output in outputs:
            if output.size == len(images):
                return output.reshape(-1).astype(np.float64)
        shapes = ", ".join(str(output.shape) for output in outputs)
        raise CheckpointError(f"{self.card.name}: no output has one value per image: {shapes}", hint="no IQA model?")


def load_onnx_scorer(card: ModelCard, weights: Path, *, device: str, threads: int | None) -> Scorer:
    """Open the file. Raises `CheckpointError` if it is no such model, `ConfigurationError` on a wrong device."""
    providers = _providers(device)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; they are raised, too
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(weights, options, providers=providers)
    except UNREADABLE as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{weights} is not an ONNX model: {reason}", hint="restore the file") from error
    log.info("model_loaded", scorer=card.scorer_id, device=providers[0])
    return OnnxScorer(card, session)


def _providers(device: str) -> list[str]:
    there = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if device == "cpu" or (device == "auto" and not there):
        return ["CPUExecutionProvider"]
    if device in {"auto", "cuda"} and there:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]
    raise ConfigurationError(
        f"onnxruntime offers no device {device!r} here", hint="use auto or cpu, or install onnxruntime-gpu"
    )


def _fits(shape: list[int | str], wanted: list[int]) -> bool:
    """Whether (B, 3, H, W) with possibly named (free) sizes takes images of the wanted size."""
    sizes = zip(shape[1:], wanted, strict=True) if len(shape) == 4 else [(0, 1)]
    return all(not isinstance(given, int) or given == size for given, size in sizes)
