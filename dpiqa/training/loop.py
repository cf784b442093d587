"""The loop both networks share: epochs of random crops, a moving average of the weights, the best one kept."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import structlog
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

log = structlog.get_logger()
#: Part of a parameter's name -> factor of its learning rate; see `parameter_groups`.
SLOW = {"fc1.weight": 0.01, "fc1.0.weight": 0.01, "img_adapter.conv_in.": 0.05, "img_adapter.body.": 0.05}

#: (model, rows of the training set, random generator) -> loss
LossOf = Callable[[nn.Module, np.ndarray, np.random.Generator], torch.Tensor]
#: model -> figures; `srcc` chooses the best epoch
Validate = Callable[[nn.Module], dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One training run. The same plan and seed on the same machine give the same weights."""

    epochs: int
    batch: int = 32
    rate: float = 2e-3  #: highest; warms up over the first 5 %, then falls as a cosine
    weight_decay: float = 0.02
    crop: int = 256  #: pixels, native resolution
    ema: float = 0.998  #: decay of the weights' moving average per step
    validate_every: int = 2  #: epochs
    seed: int = 0


def fit(model: nn.Module, rows: np.ndarray, loss_of: LossOf, validate: Validate, plan: Plan, out: Path) -> Path:
    """Train `model` in place; returns `out`/best.safetensors, the averaged weights of the epoch with the best SRCC.

    A run that was killed goes on after the last whole epoch when called again with the same `out`.
    """
    out.mkdir(parents=True, exist_ok=True)
    run = _Run(model, plan, len(rows) // plan.batch, out)
    for epoch in range(run.resume(), plan.epochs):
        started = time.monotonic()
        loss = _epoch(run, rows, loss_of, epoch)
        record: dict[str, Any] = {"epoch": epoch, "loss": loss, "rate": run.rate, "seconds": time.monotonic() - started}
        if (epoch + 1) % plan.validate_every == 0 or epoch + 1 == plan.epochs:
            record |= validate(run.average.module.eval())
        run.keep(epoch, record)
    return run.best_file


def _epoch(run: "_Run", rows: np.ndarray, loss_of: LossOf, epoch: int) -> float:
    rng = np.random.default_rng((run.plan.seed, epoch))
    torch.manual_seed(run.plan.seed * 10_000 + epoch)
    order = rng.permutation(rows)
    run.model.train()
    total = 0.0
    for step in range(run.steps):
        batch = order[step * run.plan.batch : (step + 1) * run.plan.batch]
        total += run.step(epoch * run.steps + step, loss_of(run.model, batch, rng))
        if (step + 1) % 50 == 0:
            log.info("step", epoch=epoch, step=step + 1, of=run.steps, loss=round(total / (step + 1), 4))
    return total / run.steps


class _Run:
    """Optimiser, averaged weights and files of one run."""

    def __init__(self, model: nn.Module, plan: Plan, steps: int, out: Path) -> None:
        self.model, self.plan, self.steps, self.rate = model, plan, steps, 0.0
        self.average = AveragedModel(model, avg_fn=_warm_average(plan.ema), use_buffers=True)
        self.optimiser = torch.optim.AdamW(parameter_groups(model, plan.weight_decay))
        self.best = -2.0
        self.best_file, self.last_file, self.log_file = out / "best.safetensors", out / "last.pt", out / "log.jsonl"

    def step(self, number: int, loss: torch.Tensor) -> float:
        self.rate = learning_rate(number, self.plan.epochs * self.steps, self.plan.rate)
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * group["factor"]
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.average.update_parameters(self.model)
        return float(loss.detach())

    def keep(self, epoch: int, record: dict[str, Any]) -> None:
        rounded = {k: round(v, 5) if isinstance(v, float) else v for k, v in record.items()}
        log.info("epoch", **rounded)
        with self.log_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(rounded) + "\n")
        if "srcc" in record and (merit := _merit(record["srcc"])) > self.best:
            self.best = merit
            save_file({k: v.contiguous() for k, v in self.average.module.state_dict().items()}, self.best_file)
        state = {
            "epoch": epoch + 1,
            "best": self.best,
            "plan": asdict(self.plan),
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        partial = self.last_file.with_suffix(".partial")
        torch.save(state, partial)
        partial.rename(self.last_file)

    def resume(self) -> int:
        """First epoch to run."""
        if not self.last_file.exists():
            return 0
        state = torch.load(self.last_file, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.best = state["best"]
        log.info("resumed", epoch=state["epoch"], best=self.best)
        return int(state["epoch"])


def _merit(srcc: float) -> float:
    """Order epochs by SRCC; a constant answer, whose SRCC is undefined, is the worst of all and still an answer."""
    return -1.5 if math.isnan(srcc) else srcc


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Group the trained parameters: matrices decay, vectors do not, and two parts learn slowly.

    The regressor's first layer begins as an average over about a thousand cells; Adam moves every weight alike, so that
    at the common rate their sum would move a thousand times as fast as any other layer. The image adapter has sixteen
    residual convolutions without any normalisation: at the common rate its output grew to 1e7 within two epochs.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            factor = next((value for part, value in SLOW.items() if part in name), 1.0)
            groups.setdefault((factor, weight_decay if parameter.ndim > 1 else 0.0), []).append(parameter)
    return [{"params": found, "factor": f, "weight_decay": decay} for (f, decay), found in groups.items()]


def learning_rate(step: int, steps: int, highest: float) -> float:
    """Linear warm-up over the first 5 % of `steps`, then a cosine down to 1 % of `highest`."""
    warm = max(1, steps // 20)
    if step < warm:
        return highest * (step + 1) / warm
    falling = 0.5 * (1 + np.cos(np.pi * (step - warm) / max(1, steps - warm)))
    return float(highest * (0.01 + 0.99 * falling))


def _warm_average(decay: float) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor | int], torch.Tensor]:
    """Average with a memory that grows with the run, so that early epochs are not judged by the random start."""

    def update(average: torch.Tensor, current: torch.Tensor, updates: torch.Tensor | int) -> torch.Tensor:
        weight = 1 - min(decay, (1 + float(updates)) / (10 + float(updates)))
        return average + (current - average) * weight if average.is_floating_point() else current

    return update


def load_best(model: nn.Module, file: Path) -> nn.Module:
    """Put the weights of a finished run into `model`, in evaluation mode."""
    model.load_state_dict(load_file(file))
    return model.eval()
