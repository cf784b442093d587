"""A student's network compiled by `torch.compile`.

Without CUDA graphs: those of `torch.compile` belong to the thread that made them, and a worker loads models in another
thread than the one that scores.
"""

import os
from pathlib import Path

import numpy as np
import torch
from torch._dynamo.exc import TorchDynamoException

from dpiqa.errors import ConfigurationError
from dpiqa.models.base import ModelCard
from dpiqa.models.torch_scorer import TorchScorer
from dpiqa.text import reason_of

#: Images a call, the largest first: each is compiled once, while the model is loaded.
_ON_CPU, _ON_GPU = (1,), (16, 4, 1)


class CompiledScorer(TorchScorer):
    """A compiled network, which is called with a few sizes of batches only: each is compiled for itself."""

    def __init__(self, card: ModelCard, eager: TorchScorer) -> None:
        device = torch.device(eager.device)
        super().__init__(card, eager.network, device)
        self._sizes = _ON_GPU if device.type == "cuda" else _ON_CPU

    def score(self, pixels: np.ndarray) -> np.ndarray:
        """See `Scorer.score`."""
        scores = []
        first = 0
        while first < len(pixels):
            size = next((size for size in self._sizes if size <= len(pixels) - first), 1)
            scores.append(super().score(pixels[first : first + size]))
            first += size
        return np.concatenate(scores)

    def warm_up(self) -> None:
        """Compile every size of batches. Raises `ConfigurationError` where this machine cannot compile."""
        size = self.card.preprocessing
        try:
            for images in self._sizes:
                self.score(np.zeros((images, size.height, size.width, 3), dtype=np.uint8))
        except TorchDynamoException as error:
            raise ConfigurationError(
                f"torch cannot compile {self.card.name}: {reason_of(error)}",
                hint="install a C++ compiler (Debian: g++), or set DPIQA_BACKEND=eager",
            ) from error


def compiled(card: ModelCard, eager: TorchScorer, folder: Path | None) -> CompiledScorer:
    """Compile a scorer's network, which then runs compiled in `eager`, too. Takes minutes for a large one.

    `folder`: where the compiler keeps its results for the next process; None, or with `TORCHINDUCTOR_CACHE_DIR` in the
    environment: where torch does. Raises `ConfigurationError` where this machine cannot compile.
    """
    if folder is not None:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))
    eager.network.compile(dynamic=False)
    scorer = CompiledScorer(card, eager)
    scorer.warm_up()
    return scorer
