"""The loop that every network is trained by: resumable to the update, on one process or several.

    fit(task, plan, out) -> Outcome

A process killed at any moment leaves `out` so that the same call goes on and ends with the same weights: the state is
replaced as a whole, and whatever is random is a function of the seed and the number of the batch.
"""

import math
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import structlog
import torch
from torch import nn

from dpiqa.errors import InvalidRequest, TrainingDiverged, TrainingInterrupted
from dpiqa.files import locked_folder
from dpiqa.training.checkpoints import Machinery, load_best, load_last, save_best, save_last
from dpiqa.training.optimise import MovingAverage, build_optimiser, learning_rate
from dpiqa.training.place import Place
from dpiqa.training.plan import Arithmetic, Cadence, Plan
from dpiqa.training.records import Nobody, Watch
from dpiqa.training.seeds import order_generator, step_generator
from dpiqa.training.stopping import StopRequest, stop_requests
from dpiqa.training.task import Task

log = structlog.get_logger()
_DTYPES = {Arithmetic.BFLOAT16: torch.bfloat16, Arithmetic.FLOAT16: torch.float16}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended; the task's network holds the weights of `best_step`."""

    steps: int  #: updates
    best_step: int
    figures: dict[str, float]  #: of the best validation
    seconds: float  #: spent on updates, over all processes that took turns
    main: bool  #: whether this process is the one that writes the model


def fit(
    task: Task,
    plan: Plan,
    out: Path,
    *,
    identity: Mapping[str, Any] | None = None,
    cadence: Cadence | None = None,
    watch: Watch | None = None,
    cpu: bool = False,
) -> Outcome:
    """Train the task's network in place, and leave the weights of the best validation in it, in evaluation mode.

    `identity`: whatever else the result depends on (data, sizes, starting weights), as JSON values; going on in `out`
    with another plan or identity is refused. `cpu`: even where there is a GPU. `out` gets last.pt, best.safetensors
    (learned tensors only) and log.jsonl. Raises `TrainingDiverged` when the loss is no number, `TrainingInterrupted`
    after SIGINT or SIGTERM, when the state has been saved, and `ConfigurationError` or `CheckpointError` about what is
    in `out`.
    """
    place = Place(cpu=cpu)
    with locked_folder(out, wait=False) if place.main else nullcontext(), stop_requests() as stop:
        run = _Run(task, plan, out, place, dict(identity or {}), cadence or Cadence(), watch or Nobody())
        try:
            run.go(stop)
        finally:
            run.record.close()
    return run.outcome()


class _Run:
    """One process's share of a run."""

    def __init__(
        self,
        task: Task,
        plan: Plan,
        out: Path,
        place: Place,
        identity: dict[str, Any],
        cadence: Cadence,
        watch: Watch,
    ) -> None:
        self.task, self.plan, self.out, self.place, self.cadence, self.watch = task, plan, out, place, cadence, watch
        self.share = plan.accumulation * place.processes  # batches to an update
        self.per_epoch = len(task.batches(order_generator(plan.seed, 0))) // self.share
        if self.per_epoch == 0:
            hint = "lower plan.batch or plan.accumulation"
            raise InvalidRequest(f"an epoch has fewer than {self.share} batches of {plan.batch} images", hint=hint)
        self.steps = plan.epochs * self.per_epoch
        self.identity = {"plan": plan.model_dump(mode="json"), "processes": place.processes, **identity}
        network = place.to_device(task.network)
        self.parts = Machinery(
            network=network,
            optimiser=build_optimiser(network, plan),
            average=MovingAverage(network, plan.ema) if plan.ema else None,
            scaler=torch.amp.GradScaler(place.device.type, enabled=plan.precision is Arithmetic.FLOAT16),
        )
        self.progress = load_last(out, self.parts, self.identity)
        self.callable = place.wrap(network)
        self.record = place.record(out, self.progress.step, cadence)
        self._order: tuple[int, list[np.ndarray]] = (-1, [])

    def go(self, stop: StopRequest) -> None:
        """Make every update that is left."""
        self.watch.started(step=self.progress.step, steps=self.steps)
        if self.progress.step:
            log.info("training_resumed", step=self.progress.step, steps=self.steps)
        while self.progress.step < self.steps:
            if self.place.any(stop.wanted):
                self._save()
                raise TrainingInterrupted(
                    f"stopped after update {self.progress.step} of {self.steps}, saved in {self.out}",
                    hint="the same command goes on from there",
                )
            started = time.monotonic()
            self._update()
            self.progress.seconds += time.monotonic() - started
            self._write()

    def outcome(self) -> Outcome:
        """Put the best weights into the network."""
        self.place.wait()  # until the main process has written them
        load_best(self.out, self.parts.network)
        done = self.progress
        return Outcome(
            steps=self.steps,
            best_step=done.best_step,
            figures=done.best_figures,
            seconds=round(done.seconds, 1),
            main=self.place.main,
        )

    def _update(self) -> None:
        """One step of the optimiser: `accumulation` forward and backward passes, clipping, average."""
        optimiser, step = self.parts.optimiser, self.progress.step
        rate = learning_rate(step, self.steps, self.plan)
        for group in optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        optimiser.zero_grad(set_to_none=True)
        self.callable.train()
        for turn in range(self.plan.accumulation):
            last = turn + 1 == self.plan.accumulation
            with nullcontext() if last else self.place.unsynchronised(self.callable):
                self._accumulate(step * self.share + turn * self.place.processes + self.place.index)
        if self.plan.clip:
            self.parts.scaler.unscale_(optimiser)
            nn.utils.clip_grad_norm_(self.parts.network.parameters(), self.plan.clip)
        self.parts.scaler.step(optimiser)
        self.parts.scaler.update()
        if self.parts.average is not None:
            self.parts.average.update()
        self.progress.step += 1
        self.progress.summed += 1

    def _accumulate(self, number: int) -> None:
        """Forward and backward pass of batch `number` of the run."""
        rows, rng = self._batch(number), step_generator(self.plan.seed, number)
        dtype = _DTYPES.get(self.plan.precision)
        with torch.autocast(self.place.device.type, dtype or torch.bfloat16, enabled=dtype is not None):
            terms = self.task.loss(self.callable, rows, rng)
        loss = torch.stack([term.float() for term in terms.values()]).sum()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingDiverged(
                f"the loss is {value} in update {self.progress.step + 1}",
                hint="train into another folder with a lower plan.rate; what was best so far stays in best.safetensors",
            )
        self.parts.scaler.scale(loss / self.plan.accumulation).backward()  # type: ignore[no-untyped-call]
        for name, one in {"loss": value, **{n: float(t.detach()) for n, t in terms.items()}}.items():
            self.progress.sums[name] = self.progress.sums.get(name, 0.0) + one / self.plan.accumulation

    def _batch(self, number: int) -> np.ndarray:
        """Return the rows of batch `number`, counted over epochs and processes."""
        epoch, place = divmod(number, self.per_epoch * self.share)
        if self._order[0] != epoch:
            self._order = (epoch, list(self.task.batches(order_generator(self.plan.seed, epoch))))
        return self._order[1][place]

    def _write(self) -> None:
        """Whatever is due after an update: line, validation, checkpoint."""
        step, sums = self.progress.step, self.progress.sums
        self.watch.stepped(step=step, loss=sums["loss"] / self.progress.summed)
        last = step == self.steps
        if step % self.cadence.log_every_steps == 0 or last:
            self._log_losses()
        if step % (self.plan.validate_every_steps or self.per_epoch) == 0 or last:
            self._validate()
        if step % self.cadence.checkpoint_every_steps == 0 or last:
            self._save()

    def _log_losses(self) -> None:
        done = self.progress
        means = {name: value / done.summed for name, value in done.sums.items()}
        rate = learning_rate(done.step - 1, self.steps, self.plan)
        self.record.write(
            done.step,
            {**means, "rate": rate, "epoch": done.step / self.per_epoch, "seconds": round(done.seconds, 3)},
        )
        done.sums, done.summed = {}, 0

    def _validate(self) -> None:
        """Judge the averaged weights; keep them if they are the best. Only the main process does, the others wait."""
        if self.place.main:
            with self.parts.average.in_place() if self.parts.average else nullcontext():
                self.parts.network.eval()
                with torch.no_grad():
                    found = self.task.validate(self.parts.network)
                best = self._is_best(found.merit)
                if best:
                    save_best(self.out, self.parts.network)
                    done = self.progress
                    done.best_step, done.best_merit, done.best_figures = done.step, found.merit, found.figures
            self.record.write(self.progress.step, {f"val_{n}": v for n, v in found.figures.items()} | {"best": best})
            self.watch.validated(step=self.progress.step, figures=found.figures, best=best)
        self.place.wait()

    def _is_best(self, merit: float) -> bool:
        """NaN, the SRCC of a constant answer, is worse than any number and better than nothing."""
        before = self.progress.best_merit
        return before is None or (math.isnan(before) and not math.isnan(merit)) or merit > before

    def _save(self) -> None:
        if self.place.main:
            save_last(self.out, self.parts, self.progress, self.identity)
        self.place.wait()
