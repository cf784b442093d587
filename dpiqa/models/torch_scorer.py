"""Scorers whose networks run in torch."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import structlog
import torch
from torch import nn

from dpiqa.errors import ConfigurationError, DeviceMemoryError
from dpiqa.models.base import ModelCard, Scorer
from dpiqa.models.brightness import require_shape
from dpiqa.models.checkpoint import load_strictly
from dpiqa.models.memory import keep_buffers
from dpiqa.models.networks import build_network
from dpiqa.models.seeds import content_seeds
from dpiqa.models.views import score_in_views
from dpiqa.types import Precision

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
        self._view_size: int | None = card.architecture.get("view_size")
        exact = getattr(network, "wants_float32", False)  # networks that look at differences of neighbouring pixels
        self._dtype = torch.float32 if exact else DTYPES[card.precision]

    @torch.inference_mode()
    def score(self, pixels: np.ndarray) -> np.ndarray:
        """See `Scorer.score`."""
        require_shape(pixels, self.card)
        out_of_memory = False
        try:
            images = image_tensor(pixels, self.card, self._device, self._dtype)
            scores = score_in_views(self._seeded(pixels), images, self._view_size)
            return scores.double().cpu().numpy()
        except torch.cuda.OutOfMemoryError:
            out_of_memory = True  # raised below: in here the traceback still holds the batch's tensors
        raise DeviceMemoryError(f"{len(pixels)} images do not fit on {self._device}: {out_of_memory=}")

    def _seeded(self, pixels: np.ndarray) -> Callable[..., tuple[torch.Tensor, ...]]:
        """Return the network; one that samples gets each image's own seed, the same in all its views."""
        if self.card.architecture.get("posterior") != "sample":
            return self.network
        return partial(self.network, seeds=content_seeds(pixels))


def image_tensor(pixels: np.ndarray, card: ModelCard, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) in [0, 1] on the device, in the card's memory format."""
    batch = torch.from_numpy(np.require(pixels, requirements=["C", "W"])).to(device, non_blocking=True)
    return batch.permute(0, 3, 1, 2).to(dtype, memory_format=memory_format(card)).div_(255)


def load_torch_scorer(card: ModelCard, weights: Path, *, device: str, threads: int | None) -> Scorer:
    """Load the card's network and make it a scorer."""
    network, chosen = load_network(card, weights, device=device, threads=threads)
    if hasattr(network, "prepare"):
        network.prepare()  # type: ignore[operator]
    return ready_scorer(card, network, chosen)


def load_network(card: ModelCard, weights: Path, *, device: str, threads: int | None) -> tuple[nn.Module, torch.device]:
    """Build the card's network, put the weights in, move it to the device and into the card's arithmetic."""
    chosen = choose_device(device)
    require_precision(chosen, card)
    if threads is not None:
        torch.set_num_threads(threads)
    torch.backends.cudnn.allow_tf32 = False  # float32 is what the scorer's id says; TF32 keeps 10 bits of 23
    network = build_network(card)
    load_strictly(network, weights, DTYPES[card.precision])
    network = network.to(chosen).to(memory_format=memory_format(card)).eval()
    if chosen.type == "cpu":
        keep_buffers()
    log.info("model_loaded", scorer=card.scorer_id, device=str(chosen))
    return network, chosen


def ready_scorer(card: ModelCard, network: nn.Module, device: torch.device) -> TorchScorer:
    """Make a scorer of a loaded network. Raises `ConfigurationError` where the device cannot run it."""
    scorer = TorchScorer(card, network, device)
    if card.precision is not Precision.FLOAT32:
        _try_out(scorer, device)
    return scorer


def memory_format(card: ModelCard) -> torch.memory_format:
    """How the card's scorer lays its maps out in memory."""
    return torch.channels_last if card.channels_last else torch.contiguous_format


def require_precision(device: torch.device, card: ModelCard) -> None:
    """Raise `ConfigurationError` where the GPU would only emulate the precision, slowly."""
    emulated = card.precision is Precision.BFLOAT16 and device.type == "cuda"
    if emulated and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ConfigurationError(
            f"{torch.cuda.get_device_name(device)} has no bfloat16, which {card.name} is to run in",
            hint="choose float16 or float32",
        )


def _try_out(scorer: TorchScorer, device: torch.device) -> None:
    """Score a blank image: which operations a device lacks in less than float32, torch says only when they run."""
    wanted = scorer.card.preprocessing
    try:
        scorer.score(np.zeros((1, wanted.height, wanted.width, 3), dtype=np.uint8))
    except RuntimeError as error:
        if "not implemented for" not in str(error):
            raise
        raise ConfigurationError(
            f"{device} cannot run {scorer.card.name} in {scorer.card.precision}: {str(error).splitlines()[0]}",
            hint="choose float32, or another device",
        ) from error


def choose_device(device: str) -> torch.device:
    """`auto` -> a GPU if there is one. Raises `ConfigurationError` for one that is not there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ConfigurationError(f"{device!r} is no device", hint="use auto, cpu, cuda or cuda:N") from error
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ConfigurationError(f"there is no {device} here", hint="use auto or cpu, or mend the GPU driver")
    return chosen
