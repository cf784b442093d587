"""A student's network compiled by `torch.compile`, and on a GPU recorded as CUDA graphs.

A compiled network is compiled for each size of batches, and recorded for each. So it sees a few sizes only: other
batches are filled up with pixels whose scores are dropped. The graphs are our own, not those of `torch.compile`
(`reduce-overhead`): these belong to the thread that made them, and a worker loads models in another thread than the one
that scores. Nothing of this was run on a GPU by us.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
import structlog
import torch
from torch._dynamo.exc import TorchDynamoException

from dpiqa.errors import ConfigurationError
from dpiqa.models.backends.cuda_graph import recorded
from dpiqa.models.base import ModelCard
from dpiqa.models.scoring_network import score_in_views
from dpiqa.models.torch_scorer import TorchScorer, as_images, pixel_tensor
from dpiqa.text import first_line, reason_of

log = structlog.get_logger()

#: Images a call, the least first. On a CPU a batch is not faster than its images one by one. On a GPU less than half of
#: a call is filled up, and each size costs a compilation.
ON_CPU, ON_GPU = (1,), (1, 4, 8, 16)
#: Makes scores (B,) of the pixels (B, H, W, 3) uint8 on the device that it was made for.
Call: TypeAlias = Callable[[], torch.Tensor]


def parts(n: int, sizes: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Yield the calls for `n` images: the images of each, and the least size of batches that holds them.

    `sizes`: images a call, the least first; as many as possible go into calls of the last one.
    """
    while n > 0:
        images = min(n, sizes[-1])
        yield images, next(size for size in sizes if size >= images)
        n -= images


class CompiledScorer(TorchScorer):
    """A compiled network, which is called with a few sizes of batches only. Call `prepare` first. Not thread-safe.

    `sizes`: images a call, the least first; `in_graphs`: record the calls as CUDA graphs, for which the device must be
    a GPU.
    """

    def __init__(self, card: ModelCard, eager: TorchScorer, sizes: tuple[int, ...], *, in_graphs: bool) -> None:
        super().__init__(card, eager.network, torch.device(eager.device))
        self.sizes, self._in_graphs = sizes, in_graphs
        self._batches: dict[int, torch.Tensor] = {}  # (size, H, W, 3) uint8, on the device
        self._calls: dict[int, Call] = {}

    @torch.inference_mode()
    def prepare(self) -> None:
        """Compile the network for every size of batches, and record each as a CUDA graph where that was asked for.

        Calls that cannot be recorded are made without graphs, with a line in the log. Raises `ConfigurationError` where
        this machine cannot compile, or the device has not the memory.
        """
        size = self.card.preprocessing
        for images in self.sizes:
            shape = (images, size.height, size.width, 3)
            self._batches[images] = torch.zeros(shape, dtype=torch.uint8, device=self._device)
            self._calls[images] = self._call(self._batches[images])
        self._compile()
        if not self._in_graphs:
            return
        plain = dict(self._calls)
        try:
            # The largest first: the others take its memory. They never run at the same time.
            for images, graph in recorded(dict(reversed(plain.items())), self._device):
                self._calls[images] = graph
            log.info("cuda_graphs_recorded", model=self.card.name, sizes=list(self.sizes))
        except RuntimeError as error:
            self._calls = plain
            log.warning("cuda_graphs_not_used", model=self.card.name, error=first_line(error))
            self._compile()  # a GPU that no longer answers is noticed here

    def _call(self, batch: torch.Tensor) -> Call:
        def call() -> torch.Tensor:
            images = as_images(batch, self.card, self.network.input_dtype)
            return score_in_views(self.network, images, self.network.view_size)

        return call

    def _compile(self) -> None:
        try:
            for call in self._calls.values():
                call().cpu()
        except TorchDynamoException as error:
            raise ConfigurationError(
                f"torch cannot compile {self.card.name}: {reason_of(error)}",
                hint="install a C++ compiler (Debian: g++), or set DPIQA_BACKEND=eager",
            ) from error
        except torch.cuda.OutOfMemoryError as error:
            raise ConfigurationError(
                f"{self.sizes[-1]} images of {self.card.name} do not fit on {self.device}",
                hint="free memory there, or set DPIQA_BACKEND=eager, which takes smaller batches",
            ) from error

    def _scores(self, pixels: np.ndarray) -> torch.Tensor:
        images, scores = pixel_tensor(pixels), []
        for n, size in parts(len(images), self.sizes):
            self._batches[size][:n].copy_(images[:n], non_blocking=True)  # the rest is of earlier calls
            scores.append(self._calls[size]()[:n].clone())  # a graph writes into the same memory each time
            images = images[n:]
        return torch.cat(scores)


def compiled(card: ModelCard, eager: TorchScorer, folder: Path | None) -> CompiledScorer:
    """Compile a scorer's network, which then runs compiled in `eager`, too. Takes minutes for a large one.

    `folder`: where the compiler keeps its results for the next process; None, or with `TORCHINDUCTOR_CACHE_DIR` in the
    environment: where torch does. Raises `ConfigurationError` where this machine cannot compile.
    """
    if folder is not None:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))
    eager.network.compile(dynamic=False)
    on_gpu = torch.device(eager.device).type == "cuda"
    scorer = CompiledScorer(card, eager, ON_GPU if on_gpu else ON_CPU, in_graphs=on_gpu)
    scorer.prepare()
    return scorer
