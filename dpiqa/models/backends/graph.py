"""A student's network as an ONNX file, which ONNX Runtime and OpenVINO compute on one picture at a time.

One at a time, so that a score cannot depend on its batch; on a CPU a batch is not faster.
"""

import hashlib
import json
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import structlog
import torch
from torch import nn

from dpiqa.errors import ConfigurationError
from dpiqa.files import locked_folder, replace_file
from dpiqa.models.base import ModelCard, require_shape
from dpiqa.models.scoring_network import ScoringNetwork, score_in_views
from dpiqa.text import reason_of

log = structlog.get_logger()

INPUT, OUTPUT = "pixels", "scores"  #: (1, H, W, 3) uint8 and (1,) float32
_OPSET = 17  #: of ONNX; both libraries have known it for years


class GraphScorer:
    """A network that another library computes. Not thread-safe.

    `infer` returns the scores (N,) of pixels (N, H, W, 3) uint8; `device` is where it computes, `cpu` or `cuda`.
    """

    def __init__(self, card: ModelCard, infer: Callable[[np.ndarray], np.ndarray], device: str = "cpu") -> None:
        self.card, self._infer, self.device = card, infer, device

    def score(self, pixels: np.ndarray) -> np.ndarray:
        """See `Scorer.score`."""
        require_shape(pixels, self.card)
        return self._infer(pixels).astype(np.float64)


class _OfPixels(nn.Module):
    """A network as a function of pixels (1, H, W, 3) uint8."""

    def __init__(self, network: ScoringNetwork) -> None:
        super().__init__()
        self._network = network

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        images = pixels.permute(0, 3, 1, 2).float() / 255
        return score_in_views(self._network, images, self._network.view_size)


def graph_file(card: ModelCard, network: ScoringNetwork, folder: Path) -> tuple[Path, bool]:
    """Return the ONNX file of a network in `folder`, and whether it was written now instead of by an earlier process.

    Args:
        card: the model; a file serves one set of weights and sizes, and one version of torch and of dpiqa.
        network: in evaluation mode, in float32, on the CPU.
        folder: where files are kept; created if missing.

    Raises:
        ConfigurationError: the file cannot be written, or the network has an operation that ONNX does not have.
    """
    made_of = [card.sha256, card.architecture, card.preprocessing.version, version("torch"), version("dpiqa")]
    digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
    path = folder / f"{card.name}-{digest[:16]}.onnx"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked_folder(folder):  # one of the workers that start together exports, the others wait
            if path.exists():
                return path, False
            replace_file(path, lambda partial: _export(card, network, partial), private=True)
    except OSError as error:
        raise ConfigurationError(
            f"the graph of {card.name} cannot be written to {folder}: {reason_of(error)}",
            hint="free space there, or set DPIQA_CACHE_DIR to another folder",
        ) from error
    except RuntimeError as error:
        raise ConfigurationError(
            f"{card.name} cannot be exported to ONNX: {reason_of(error)}", hint="set DPIQA_BACKEND=eager or compile"
        ) from error
    log.info("graph_exported", model=card.name, file=str(path))
    return path, True


def _export(card: ModelCard, network: ScoringNetwork, path: Path) -> None:
    pixels = torch.zeros((1, card.preprocessing.height, card.preprocessing.width, 3), dtype=torch.uint8)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sizes that become constants, as they should; and that another exporter is new
        torch.onnx.export(
            _OfPixels(network).eval(),
            (pixels,),
            str(path),
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=_OPSET,
            dynamo=False,  # the other exporter needs onnxscript, too
        )
