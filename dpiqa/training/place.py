"""Where a run computes: this process's device and its companions, by accelerate.

Without a launcher there is one process: on the first GPU if there is one, else on the CPU. `accelerate launch -m
dpiqa.cli train ...` starts one process for each GPU.
"""

from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from torch import nn

from dpiqa.training.plan import Cadence
from dpiqa.training.records import Record

_PATIENCE = timedelta(hours=6)  #: others wait while the main process validates


class Place:
    """This process among the processes of a run."""

    def __init__(self, *, cpu: bool = False) -> None:
        cpu = cpu or not torch.cuda.is_available()
        self._accelerator: Any = Accelerator(cpu=cpu, kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE)])
        self.device: torch.device = self._accelerator.device
        self.processes: int = self._accelerator.num_processes
        self.index: int = self._accelerator.process_index
        self.main: bool = self._accelerator.is_main_process

    def to_device(self, network: nn.Module) -> nn.Module:
        """Move the network here, laid out as convolutions like it."""
        return network.to(self.device).to(memory_format=torch.channels_last)

    def wrap(self, network: nn.Module) -> nn.Module:
        """Return the network as the loss is to call it: gradients become the mean over all processes."""
        return cast("nn.Module", self._accelerator.prepare_model(network)) if self.processes > 1 else network

    def unsynchronised(self, network: nn.Module) -> AbstractContextManager[Any]:
        """Leave gradients where they are: not the last pass of an update."""
        return cast("AbstractContextManager[Any]", self._accelerator.no_sync(network))

    def any(self, wish: bool) -> bool:
        """Whether one of the processes wishes it."""
        if self.processes == 1:
            return wish
        return bool(self._accelerator.reduce(torch.tensor(float(wish), device=self.device)).item())

    def wait(self) -> None:
        """Until every process is here."""
        if self.processes > 1:
            self._accelerator.wait_for_everyone()

    def record(self, out: Path, step: int, cadence: Cadence) -> "Record | NoRecord":
        """Return the run's log, which only the main process writes."""
        return Record(out, step=step, tensorboard=cadence.tensorboard) if self.main else NoRecord()


class NoRecord:
    """What the other processes write: nothing."""

    def write(self, step: int, entry: Any) -> None:
        """See `Record.write`."""

    def close(self) -> None:
        """See `Record.close`."""
