"""Scorers whose networks run in torch."""

from pathlib import Path

import numpy as np
import structlog
import torch
from torch import nn

from dpiqa.errors import ConfigurationError
from dpiqa.models.base import DeviceMemoryError, ModelCard, Precision, Scorer
from dpiqa.models.checkpoint import load_strictly
from dpiqa.models.networks import build_network
from dpiqa.models.pixels import require_shape
from dpiqa.models.views import score_in_views

log = structlog.get_logger()
DTYPES = {
    Precision.FLOAT32: torch.float32,
    Precision.BFLOAT16: torch.bfloat16,
    Precision.FLOAT16: torch.float16,
}


class TorchScorer:
    """A network in evaluation mode on one device. Not thread-safe."""

    def __init__(self, card: ModelCard, network: nn.Module, device: torch.device) -> None:
        self.card, self.network, self._device = card, network, device
        self._dtype = DTYPES[card.precision]
        self._view_size: int | None = card.architecture.get("view_size")

    @torch.inference_mode()
    def score(self, pixels: np.ndarray) -> np.ndarray:
        """See `Scorer.score`."""
        require_shape(pixels, self.card)
        out_of_memory = False
        try:
            scores = score_in_views(self.network, self._images(pixels), self._view_size)
            return scores.double().cpu().numpy()
        except torch.cuda.OutOfMemoryError:
            out_of_memory = True  # raised below: in here the traceback still holds the batch's tensors
        raise DeviceMemoryError(f"{len(pixels)} images do not fit on {self._device}: {out_of_memory=}")

    def _images(self, pixels: np.ndarray) -> torch.Tensor:
        """(B, H, W, 3) uint8 -> (B, 3, H, W) in [0, 1] on the device, channels last."""
        batch = torch.from_numpy(np.require(pixels, requirements=["C", "W"])).to(self._device, non_blocking=True)
        return batch.permute(0, 3, 1, 2).to(self._dtype).div_(255)


def load_torch_scorer(card: ModelCard, weights: Path, *, device: str, threads: int | None) -> Scorer:
    """Build the card's network, put the weights in and move it to the device."""
    chosen = choose_device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    network = build_network(card)
    load_strictly(network, weights, DTYPES[card.precision])
    network = network.to(chosen).to(memory_format=torch.channels_last).eval()
    if hasattr(network, "prepare"):
        network.prepare()  # type: ignore[operator]
    log.info("model_loaded", scorer=card.scorer_id, device=str(chosen))
    return TorchScorer(card, network, chosen)


def choose_device(device: str) -> torch.device:
    """`auto` -> a GPU if there is one. Raises `ConfigurationError` for one that is not there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ConfigurationError(f"{device!r} is no device", cure="use auto, cpu, cuda or cuda:N") from error
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ConfigurationError(f"there is no {device} here", cure="use auto or cpu, or mend the GPU driver")
    return chosen
