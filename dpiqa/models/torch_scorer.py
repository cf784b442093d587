"""Scorers whose networks run in torch."""

from pathlib import Path
from typing import cast

import numpy as np
import structlog
import torch
from torch import nn

from dpiqa.errors import ConfigurationError, DeviceMemoryError
from dpiqa.models.base import ModelCard, require_shape
from dpiqa.models.checkpoint import load_strictly
from dpiqa.models.networks import build_network
from dpiqa.models.scoring_network import ScoringNetwork, score_in_views
from dpiqa.process_tuning import keep_buffers
from dpiqa.text import reason_of
from dpiqa.types import Precision

log = structlog.get_logger()
DTYPES = {
    Precision.FLOAT32: torch.float32,
    Precision.BFLOAT16: torch.bfloat16,
    Precision.FLOAT16: torch.float16,
}


class TorchScorer:
    """A network in evaluation mode on one device. Not thread-safe."""

    def __init__(self, card: ModelCard, network: ScoringNetwork, device: torch.device) -> None:
        self.card, self.network, self._device = card, network, device

    @property
    def device(self) -> str:
        """See `NamesDevice`."""
        return str(self._device)

    @torch.inference_mode()
    def score(self, pixels: np.ndarray) -> np.ndarray:
        """See `Scorer.score`."""
        require_shape(pixels, self.card)
        out_of_memory = False
        try:
            return self._scores(pixels).double().cpu().numpy()
        except torch.cuda.OutOfMemoryError:
            out_of_memory = True  # raised below: in here the traceback still holds the batch's tensors
        raise DeviceMemoryError(f"{len(pixels)} images do not fit on {self._device}: {out_of_memory=}")

    def _scores(self, pixels: np.ndarray) -> torch.Tensor:
        """(N, H, W, 3) uint8 -> (N,), on the device."""
        images = image_tensor(pixels, self.card, self._device, self.network.input_dtype)
        return score_in_views(self.network.scoring(pixels), images, self.network.view_size)

    def buffer(self, shape: tuple[int, ...]) -> np.ndarray:
        """See `AllocatesBuffers.buffer`: a GPU reads pinned memory while the CPU goes on."""
        return torch.empty(shape, dtype=torch.uint8, pin_memory=self._device.type == "cuda").numpy()


def image_tensor(pixels: np.ndarray, card: ModelCard, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) in [0, 1] on the device, in the card's memory format."""
    return as_images(pixel_tensor(pixels).to(device, non_blocking=True), card, dtype)


def pixel_tensor(pixels: np.ndarray) -> torch.Tensor:
    """Return pixels (B, H, W, 3) uint8 as a tensor: the same memory, unless torch cannot take that."""
    return torch.from_numpy(np.require(pixels, requirements=["C", "W"]))


def as_images(batch: torch.Tensor, card: ModelCard, dtype: torch.dtype) -> torch.Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) in [0, 1] on the same device, in the card's memory format."""
    return batch.permute(0, 3, 1, 2).to(dtype, memory_format=memory_format(card)).div_(255)


def load_torch_scorer(card: ModelCard, weights: Path, *, device: str, threads: int | None) -> TorchScorer:
    """Load the card's network and make it a scorer. Arguments and errors as of `load_network` and `ready_scorer`."""
    loaded, torch_device = load_network(card, weights, device=device, threads=threads)
    network = cast("ScoringNetwork", loaded)
    network.prepare()
    return ready_scorer(card, network, torch_device)


def load_network(card: ModelCard, weights: Path, *, device: str, threads: int | None) -> tuple[nn.Module, torch.device]:
    """Build the card's network with the weights, in the card's precision and memory format, on the device.

    Args:
        card: the model.
        weights: its safetensors file.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        threads: CPU threads that torch may use in this process; None: as many as it chooses.

    Returns:
        The network, ready for inference, and the device.

    Raises:
        CheckpointError: the weights do not fit the card's architecture.
        ConfigurationError: there is no such device, or it only emulates the precision.
    """
    torch_device = choose_device(device)
    require_precision(torch_device, card)
    if threads is not None:
        torch.set_num_threads(threads)
    torch.backends.cudnn.allow_tf32 = False  # float32 is what the scorer's id says; TF32 keeps 10 bits of 23
    network = build_network(card)
    load_strictly(network, weights, DTYPES[card.precision])
    network = network.to(torch_device).to(memory_format=memory_format(card)).eval()
    if torch_device.type == "cpu":
        keep_buffers()
    log.info("model_loaded", scorer=card.scorer_id, device=str(torch_device))
    return network, torch_device


def ready_scorer(card: ModelCard, network: ScoringNetwork, device: torch.device) -> TorchScorer:
    """Make a scorer of a loaded network.

    In less than float32 it scores a blank image first: torch tells only then which operations a device lacks. Raises
    `ConfigurationError` where the device cannot run the network.
    """
    scorer = TorchScorer(card, network, device)
    if card.precision is Precision.FLOAT32:
        return scorer
    size = card.preprocessing
    try:
        scorer.score(np.zeros((1, size.height, size.width, 3), dtype=np.uint8))
    except RuntimeError as error:
        if "not implemented for" not in str(error):
            raise
        raise ConfigurationError(
            f"{device} cannot run {card.name} in {card.precision}: {reason_of(error)}",
            hint="choose float32, or another device",
        ) from error
    return scorer


def memory_format(card: ModelCard) -> torch.memory_format:
    """Return the memory format of the network's maps."""
    return torch.channels_last if card.channels_last else torch.contiguous_format


def require_precision(device: torch.device, card: ModelCard) -> None:
    """Raise `ConfigurationError` where the GPU would only emulate the precision, slowly."""
    emulated = card.precision is Precision.BFLOAT16 and device.type == "cuda"
    if emulated and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ConfigurationError(
            f"{torch.cuda.get_device_name(device)} does not support bfloat16, the precision of {card.name}",
            hint="choose float16 or float32",
        )


def choose_device(device: str) -> torch.device:
    """`auto` -> a GPU if there is one. Raises `ConfigurationError` for a device that does not exist."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch_device = torch.device(device)
    except RuntimeError as error:
        raise ConfigurationError(f"{device!r} is not a device", hint="use auto, cpu, cuda or cuda:N") from error
    if torch_device.type == "cuda" and (torch_device.index or 0) >= torch.cuda.device_count():
        raise ConfigurationError(
            f"there is no {device} on this machine", hint="use auto or cpu, or check the GPU driver"
        )
    return torch_device


def limit_memory(device: str, share: float) -> None:
    """Let this process take at most this share of a GPU's memory, 0-1: beyond it, a batch does not fit.

    Does nothing on a CPU. Raises `ConfigurationError` for a device that does not exist.
    """
    torch_device = choose_device(device)
    if torch_device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(share, torch_device)
