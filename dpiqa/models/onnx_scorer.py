"""Scorers whose networks are ONNX files: the older release of the published student. Free of torch."""

from pathlib import Path
from typing import cast

import numpy as np
import onnxruntime
import structlog
from onnxruntime.capi import onnxruntime_pybind11_state as failures

from dpiqa.errors import CheckpointError, ConfigurationError
from dpiqa.models.base import ModelCard, Scorer, require_shape
from dpiqa.text import reason_of

log = structlog.get_logger()
UNREADABLE = (failures.InvalidProtobuf, failures.InvalidGraph, failures.NoSuchFile, failures.Fail)


class OnnxScorer:
    """A network with one input (B, 3, H, W) float32 in [0, 1], where B may be fixed to 1.

    The scores are the first output with one value for each image. Not thread-safe.
    """

    def __init__(self, card: ModelCard, session: onnxruntime.InferenceSession) -> None:
        self.card, self._session = card, session
        inputs = session.get_inputs()
        size = [3, card.preprocessing.height, card.preprocessing.width]
        if len(inputs) != 1 or inputs[0].type != "tensor(float)" or not _fits(inputs[0].shape, size):
            description = ", ".join(f"{entry.name} {entry.type} {entry.shape}" for entry in inputs)
            raise CheckpointError(
                f"{card.name}: expected one float32 input of shape (B, 3, {size[1]}, {size[2]}), found {description}",
                hint="check that this is the right file, and the input size in its card",
            )
        self._input = inputs[0].name
        self._one_by_one = inputs[0].shape[0] == 1

    @property
    def device(self) -> str:
        """See `NamesDevice`."""
        return "cuda" if self._session.get_providers()[0].startswith("CUDA") else "cpu"

    def score(self, pixels: np.ndarray) -> np.ndarray:
        """See `Scorer.score`."""
        require_shape(pixels, self.card)
        images = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), dtype=np.float32) / 255
        batches = np.split(images, len(images)) if self._one_by_one and len(images) > 1 else [images]
        return np.concatenate([self._scores(batch) for batch in batches])

    def _scores(self, images: np.ndarray) -> np.ndarray:
        outputs = cast("list[np.ndarray]", self._session.run(None, {self._input: images}))
        for output in outputs:
            if output.size == len(images):
                return output.reshape(-1).astype(np.float64)
        shapes = ", ".join(str(output.shape) for output in outputs)
        raise CheckpointError(
            f"{self.card.name}: no output has one value per image: {shapes}", hint="check that this is an IQA model"
        )


def load_onnx_scorer(card: ModelCard, weights: Path, *, device: str, threads: int | None) -> Scorer:
    """Open an ONNX file.

    Args:
        card: the model.
        weights: the ONNX file.
        device: `auto`, `cpu` or `cuda`.
        threads: CPU threads of one operation; None: as many as onnxruntime chooses.

    Raises:
        CheckpointError: the file is damaged, or has other inputs.
        ConfigurationError: onnxruntime does not offer the device.
    """
    session = open_session(weights, device=device, threads=threads)
    log.info("model_loaded", scorer=card.scorer_id, device=session.get_providers()[0])
    return OnnxScorer(card, session)


def open_session(path: Path, *, device: str, threads: int | None) -> onnxruntime.InferenceSession:
    """Open an ONNX file in onnxruntime. Arguments as of `load_onnx_scorer`.

    Raises `CheckpointError` for a file that cannot be read, `ConfigurationError` for a device that is not offered.
    """
    providers = _providers(device)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; they are raised, too
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(path, options, providers=providers)
    except UNREADABLE as error:
        raise CheckpointError(f"{path} is not an ONNX model: {reason_of(error)}", hint="restore the file") from error


def _providers(device: str) -> list[str]:
    has_cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if device == "cpu" or (device == "auto" and not has_cuda):
        return ["CPUExecutionProvider"]
    if device in {"auto", "cuda"} and has_cuda:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]
    raise ConfigurationError(
        f"onnxruntime does not offer the device {device!r} on this machine",
        hint="use auto or cpu, or install onnxruntime-gpu",
    )


def _fits(shape: list[int | str], size: list[int]) -> bool:
    """Return whether an input (B, 3, H, W), where sizes may be names (free), takes images of this size."""
    if len(shape) != 4:
        return False
    return all(not isinstance(side, int) or side == expected for side, expected in zip(shape[1:], size, strict=True))
