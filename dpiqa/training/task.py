"""What the loop asks of the thing that is trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import nn


@dataclass(frozen=True, kw_only=True)
class Validation:
    """How well a network does on pictures that it does not learn from."""

    merit: float  #: higher is better; chooses the best checkpoint. NaN is worse than any number
    figures: dict[str, float]  #: for the log, by name


class Task(Protocol):
    """A network, its batches, its loss and its judge. Everything it draws comes from the generators it is given.

    That is what makes a resumed run equal to an uninterrupted one: the loop seeds the generators, and torch's, numpy's
    and Python's global ones, from the plan's seed and the number of the step.
    """

    @property
    def network(self) -> nn.Module:
        """What is trained, in place: parameters with `requires_grad` learn. Built with torch seeded by the plan."""

    def batches(self, rng: np.random.Generator) -> Sequence[np.ndarray]:
        """Return one epoch's batches as row numbers: equally many each epoch."""

    def loss(self, network: nn.Module, rows: np.ndarray, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        """Return the terms of the loss of one batch by name, scalars; their sum is minimised.

        `network` is the task's, possibly wrapped for several processes: call it, do not look into it. Runs under the
        plan's autocast.
        """

    def validate(self, network: nn.Module) -> Validation:
        """Measure `network`, which is in evaluation mode, without gradients."""


def shuffled_batches(rows: np.ndarray, size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Return `rows` in random order, `size` to a batch; a smaller rest is left out this epoch."""
    order = rng.permutation(rows)
    return [order[start : start + size] for start in range(0, len(order) - size + 1, size)]
