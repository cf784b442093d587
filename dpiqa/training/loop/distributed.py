"""The processes of a run and the device of this one, by accelerate.

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

from dpiqa.training.config.run import Cadence
from dpiqa.training.loop.log import NullLog, RunLog

_TIMEOUT = timedelta(hours=6)  #: the other processes wait while the main one validates


class Processes:
    """This process among the processes of a run."""

    def __init__(self, *, cpu: bool = False) -> None:
        cpu = cpu or not torch.cuda.is_available()
        self._accelerator: Any = Accelerator(cpu=cpu, kwargs_handlers=[InitProcessGroupKwargs(timeout=_TIMEOUT)])
        self.device: torch.device = self._accelerator.device
        self.count: int = self._accelerator.num_processes
        self.index: int = self._accelerator.process_index
        self.is_main: bool = self._accelerator.is_main_process

    def to_device(self, network: nn.Module) -> nn.Module:
        """Move the network to this process's device, in channels_last memory format."""
        return network.to(self.device).to(memory_format=torch.channels_last)

    def wrap(self, network: nn.Module) -> nn.Module:
        """Return the network as the loss is to call it: gradients become the mean over all processes."""
        return cast("nn.Module", self._accelerator.prepare_model(network)) if self.count > 1 else network

    def unsynchronised(self, network: nn.Module) -> AbstractContextManager[Any]:
        """Keep gradients in this process: for every pass of an update but the last."""
        return cast("AbstractContextManager[Any]", self._accelerator.no_sync(network))

    def any(self, flag: bool) -> bool:
        """Return whether the flag is true in at least one of the processes."""
        if self.count == 1:
            return flag
        return bool(self._accelerator.reduce(torch.tensor(float(flag), device=self.device)).item())

    def wait(self) -> None:
        """Wait until every process gets to this call."""
        if self.count > 1:
            self._accelerator.wait_for_everyone()

    def open_log(self, out: Path, step: int, cadence: Cadence) -> RunLog | NullLog:
        """Return the run's log, which only the main process writes."""
        return RunLog(out, step=step, tensorboard=cadence.tensorboard) if self.is_main else NullLog()
