"""Learning rates, parameter groups and the moving average of the weights: the arithmetic of one update."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from dpiqa.training.config.run import Optimiser, Plan, Schedule


def build_optimiser(network: nn.Module, plan: Plan) -> torch.optim.Optimizer:
    """Build the plan's optimiser over what `network` learns; `fused` computes the same in one pass over memory."""
    kind = torch.optim.Adam if plan.optimiser is Optimiser.ADAM else torch.optim.AdamW
    return kind(parameter_groups(network, plan.weight_decay, plan.slow), lr=plan.rate, fused=True)


def parameter_groups(network: nn.Module, weight_decay: float, slow: Mapping[str, float]) -> list[dict[str, Any]]:
    """Group the trained parameters: matrices decay, vectors do not, and those that `slow` names learn slowly.

    Two parts need a slower rate. A regressor's first layer that begins as an average over about a thousand cells: Adam
    moves every weight alike, so that at the common rate their sum would move a thousand times as fast as any other
    layer. And the T2I-Adapter's residual convolutions without any normalisation: at the common rate their output grew
    to 1e7 within two epochs.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            factor = next((value for part, value in slow.items() if part in name), 1.0)
            groups.setdefault((factor, weight_decay if parameter.ndim > 1 else 0.0), []).append(parameter)
    return [
        {"params": parameters, "factor": factor, "weight_decay": decay}
        for (factor, decay), parameters in groups.items()
    ]


def learning_rate(step: int, steps: int, plan: Plan) -> float:
    """Return the common rate of update `step` (from 0) of `steps`."""
    warm = math.ceil(steps * plan.warmup)
    if step < warm:
        return plan.rate * (step + 1) / warm
    if plan.schedule is Schedule.MULTISTEP:
        passed = sum(step * plan.epochs >= milestone * steps for milestone in plan.milestones)
        return plan.rate * plan.factor**passed
    if plan.schedule is Schedule.CONSTANT:
        return plan.rate
    falling = 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
    return plan.rate * (plan.floor + (1 - plan.floor) * falling)


def learned_tensors(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return the tensors that training changes, by name, not copied: parameters that learn, and buffers."""
    learned: dict[str, torch.Tensor] = {n: p for n, p in network.named_parameters() if p.requires_grad}
    stored = network.state_dict(keep_vars=True)
    return learned | {name: buffer for name, buffer in network.named_buffers() if name in stored}


class MovingAverage:
    """Average of the learned tensors over the run so far.

    Its memory grows with the run up to 1 / (1 - decay) updates. With a constant memory the random initial weights,
    and their batch statistics, keep affecting the average for a thousand updates: the first epochs' averages score at
    random.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay, self.updates = decay, 0
        self._live = learned_tensors(network)
        self.tensors = {name: tensor.detach().clone() for name, tensor in self._live.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Add the network's current weights to the average."""
        weight = 1 - min(self._decay, (1 + self.updates) / (10 + self.updates))
        for name, average in self.tensors.items():
            if average.is_floating_point():
                average.lerp_(self._live[name].detach(), weight)
            else:
                average.copy_(self._live[name])
        self.updates += 1

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the average into the network while the block runs, for validation and saving."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for name, tensor in self._live.items():
            tensor.data, self.tensors[name] = self.tensors[name], tensor.data
