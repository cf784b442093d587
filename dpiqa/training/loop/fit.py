"""The loop that trains every network: resumable at every update, on one process or several.

    fit(task, plan, out) -> FitResult

A process killed at any moment leaves `out` so that the same call resumes and ends with the same weights: the state is
replaced as a whole, and everything random is a function of the seed and the number of the batch.
"""

import math
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import structlog
import torch
from torch import nn

from dpiqa.errors import InvalidRequest, TrainingDiverged, TrainingInterrupted
from dpiqa.files import locked_folder
from dpiqa.training.config.precision import Arithmetic, autocast
from dpiqa.training.config.run import Cadence, Plan
from dpiqa.training.loop.checkpoints import TrainingState, load_best, load_last, save_best, save_last
from dpiqa.training.loop.distributed import Processes
from dpiqa.training.loop.log import Observer, SilentObserver
from dpiqa.training.loop.optimise import MovingAverage, build_optimiser, learning_rate
from dpiqa.training.loop.task import Task, order_generator, step_generator

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """The end of a run; the task's network holds the weights of `best_step`."""

    steps: int  #: updates
    best_step: int
    figures: dict[str, float]  #: of the best validation
    seconds: float  #: spent on updates, over all resumed runs
    is_main: bool  #: whether this process is the one that writes the model


def fit(
    task: Task,
    plan: Plan,
    out: Path,
    *,
    identity: Mapping[str, Any] | None = None,
    cadence: Cadence | None = None,
    observer: Observer | None = None,
    cpu: bool = False,
) -> FitResult:
    """Train the task's network in place, and leave the weights of the best validation in it, in evaluation mode.

    Args:
        task: The network, its batches, its loss and its validation.
        plan: The numbers of the training.
        out: Folder of the run, which one process at a time may use. It gets last.pt, best.safetensors (learned tensors
            only) and log.jsonl; a run that is in it is resumed.
        identity: Everything else that the result depends on (data, sizes, starting weights), as JSON values. Resuming
            with another plan or identity is refused.
        cadence: Intervals of log and checkpoints.
        observer: Receives the events of the run.
        cpu: Use the CPU even where there is a GPU.

    Raises:
        InvalidRequest: An epoch has no update, or another process works in `out`.
        TrainingDiverged: The loss is not finite.
        TrainingInterrupted: SIGINT or SIGTERM came; the state has been saved.
        ConfigurationError: `out` holds a run with other settings.
        CheckpointError: A file in `out` is damaged.
    """
    processes = Processes(cpu=cpu)
    with locked_folder(out, wait=False) if processes.is_main else nullcontext(), stop_requests() as stop:
        run = _Run(task, plan, out, processes, dict(identity or {}), cadence or Cadence(), observer or SilentObserver())
        try:
            run.go(stop)
        finally:
            run.log.close()
    return run.result()


class StopRequest:
    """A flag that a signal sets: the run stops after the present update."""

    def __init__(self) -> None:
        self.requested = False

    def handle(self, _signal: int, _frame: FrameType | None) -> None:
        """Note the request; a second signal stops immediately."""
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Turn SIGINT and SIGTERM into a stop request while the block runs; outside the main thread it is never set."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    earlier = {number: signal.signal(number, request.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


class _Run:
    """One process's share of a run."""

    def __init__(
        self,
        task: Task,
        plan: Plan,
        out: Path,
        processes: Processes,
        identity: dict[str, Any],
        cadence: Cadence,
        observer: Observer,
    ) -> None:
        self.task, self.plan, self.out, self.processes = task, plan, out, processes
        self.cadence, self.observer = cadence, observer
        self.share = plan.accumulation * processes.count  # batches of an update
        self.per_epoch = len(task.batches(order_generator(plan.seed, 0))) // self.share
        if self.per_epoch == 0:
            hint = "lower plan.batch or plan.accumulation"
            raise InvalidRequest(f"an epoch has fewer than {self.share} batches of {plan.batch} images", hint=hint)
        self.steps = plan.epochs * self.per_epoch
        self.identity = {"plan": plan.model_dump(mode="json"), "processes": processes.count, **identity}
        network = processes.to_device(task.network)
        self.state = TrainingState(
            network=network,
            optimiser=build_optimiser(network, plan),
            average=MovingAverage(network, plan.ema) if plan.ema else None,
            scaler=torch.amp.GradScaler(processes.device.type, enabled=plan.precision is Arithmetic.FLOAT16),
        )
        self.progress = load_last(out, self.state, self.identity)
        self.callable = processes.wrap(network)
        self.log = processes.open_log(out, self.progress.step, cadence)
        self._order: tuple[int, list[np.ndarray]] = (-1, [])

    def go(self, stop: StopRequest) -> None:
        """Make every update that is left."""
        self.observer.started(step=self.progress.step, steps=self.steps)
        if self.progress.step:
            log.info("training_resumed", step=self.progress.step, steps=self.steps)
        while self.progress.step < self.steps:
            if self.processes.any(stop.requested):
                self._save()
                raise TrainingInterrupted(
                    f"stopped after update {self.progress.step} of {self.steps}, saved in {self.out}",
                    hint="rerun the command to resume",
                )
            started = time.monotonic()
            self._update()
            self.progress.seconds += time.monotonic() - started
            self._report()

    def result(self) -> FitResult:
        """Put the best weights into the network."""
        self.processes.wait()  # until the main process has written them
        load_best(self.out, self.state.network)
        progress = self.progress
        return FitResult(
            steps=self.steps,
            best_step=progress.best_step,
            figures=progress.best_figures,
            seconds=round(progress.seconds, 1),
            is_main=self.processes.is_main,
        )

    def _update(self) -> None:
        """One step of the optimiser: `accumulation` forward and backward passes, clipping, average."""
        optimiser, scaler, step = self.state.optimiser, self.state.scaler, self.progress.step
        rate = learning_rate(step, self.steps, self.plan)
        for group in optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        optimiser.zero_grad(set_to_none=True)
        self.callable.train()
        for turn in range(self.plan.accumulation):
            last = turn + 1 == self.plan.accumulation
            with nullcontext() if last else self.processes.unsynchronised(self.callable):
                self._accumulate(step * self.share + turn * self.processes.count + self.processes.index)
        if self.plan.clip:
            scaler.unscale_(optimiser)
            nn.utils.clip_grad_norm_(self.state.network.parameters(), self.plan.clip)
        scaler.step(optimiser)
        scaler.update()
        if self.state.average is not None:
            self.state.average.update()
        self.progress.step += 1
        self.progress.summed += 1

    def _accumulate(self, number: int) -> None:
        """Forward and backward pass of batch `number` of the run, counted over epochs and processes."""
        epoch, index = divmod(number, self.per_epoch * self.share)
        if self._order[0] != epoch:
            self._order = (epoch, list(self.task.batches(order_generator(self.plan.seed, epoch))))
        rows = self._order[1][index]
        rng = step_generator(self.plan.seed, number)
        with autocast(self.processes.device, self.plan.precision):
            terms = self.task.loss(self.callable, rows, rng)
        loss = torch.stack([term.float() for term in terms.values()]).sum()
        values = {"loss": float(loss.detach())} | {name: float(term.detach()) for name, term in terms.items()}
        if not math.isfinite(values["loss"]):
            raise TrainingDiverged(
                f"the loss is {values['loss']} in update {self.progress.step + 1}",
                hint="train into another folder with a lower plan.rate; what was best so far stays in best.safetensors",
            )
        self.state.scaler.scale(loss / self.plan.accumulation).backward()  # type: ignore[no-untyped-call]
        for name, value in values.items():
            self.progress.sums[name] = self.progress.sums.get(name, 0.0) + value / self.plan.accumulation

    def _report(self) -> None:
        """Write what is due after an update: a line of the log, a validation, a checkpoint."""
        progress = self.progress
        step = progress.step
        self.observer.stepped(step=step, loss=progress.sums["loss"] / progress.summed)
        last = step == self.steps
        if step % self.cadence.log_every_steps == 0 or last:
            entry = {name: value / progress.summed for name, value in progress.sums.items()}
            entry["rate"] = learning_rate(step - 1, self.steps, self.plan)
            entry |= {"epoch": step / self.per_epoch, "seconds": round(progress.seconds, 3)}
            self.log.write(step, entry)
            progress.sums, progress.summed = {}, 0
        if step % (self.plan.validate_every_steps or self.per_epoch) == 0 or last:
            self._validate()
        if step % self.cadence.checkpoint_every_steps == 0 or last:
            self._save()

    def _validate(self) -> None:
        """Validate the averaged weights in the main process, while the others wait; keep them if they are the best."""
        if self.processes.is_main:
            progress = self.progress
            with self.state.average.in_place() if self.state.average else nullcontext():
                self.state.network.eval()
                with torch.no_grad():
                    validation = self.task.validate(self.state.network)
                # NaN, the SRCC of a constant score, is worse than any number and better than nothing.
                before, merit = progress.best_merit, validation.merit
                best = before is None or (math.isnan(before) and not math.isnan(merit)) or merit > before
                if best:
                    save_best(self.out, self.state.network)
                    progress.best_step, progress.best_merit = progress.step, merit
                    progress.best_figures = validation.figures
            entry = {f"val_{name}": value for name, value in validation.figures.items()} | {"best": best}
            self.log.write(progress.step, entry)
            self.observer.validated(step=progress.step, figures=validation.figures, best=best)
        self.processes.wait()

    def _save(self) -> None:
        if self.processes.is_main:
            save_last(self.out, self.state, self.progress, self.identity)
        self.processes.wait()
