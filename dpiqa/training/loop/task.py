"""The interface between the loop and what is trained, and the random generators that the loop gives to it."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import nn

_ORDER, _STEP = 0, 1  #: two independent streams of seeds


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Quality of a network on pictures that it does not learn from."""

    merit: float  #: higher is better; chooses the best checkpoint. NaN is worse than any number
    figures: dict[str, float]  #: for the log, by name


class Task(Protocol):
    """A network, its batches, its loss and its validation. All its randomness comes from the generators it is given.

    That is what makes a resumed run equal to an uninterrupted one: the loop seeds the generators, and torch's, numpy's
    and Python's global ones, from the plan's seed and the number of the step.
    """

    @property
    def network(self) -> nn.Module:
        """The network, trained in place: parameters with `requires_grad` learn. Built with torch seeded by the plan."""

    def batches(self, rng: np.random.Generator) -> Sequence[np.ndarray]:
        """Return one epoch's batches as row numbers: equally many each epoch."""

    def loss(self, network: nn.Module, rows: np.ndarray, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        """Return the terms of the loss of one batch by name, scalars; their sum is minimised.

        `network` is the task's, possibly wrapped for several processes: call it, do not access its parts. Runs under
        the plan's autocast.
        """

    def validate(self, network: nn.Module) -> Validation:
        """Measure `network`, which is in evaluation mode, without gradients."""


def shuffled_batches(rows: np.ndarray, size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Return `rows` in random order, `size` to a batch; a smaller rest is left out this epoch."""
    order = rng.permutation(rows)
    return [order[start : start + size] for start in range(0, len(order) - size + 1, size)]


def order_generator(seed: int, epoch: int) -> np.random.Generator:
    """Return the generator that shuffles one epoch; the same in every process."""
    return np.random.default_rng((_ORDER, seed, epoch))


def step_generator(seed: int, batch: int) -> np.random.Generator:
    """Return the generator of one batch of the run, and seed Python's, numpy's and torch's own (dropout) alike.

    A function of (seed, batch): there is no state to store, and an interruption cannot change it.
    """
    sequence = np.random.SeedSequence((_STEP, seed, batch))
    word = int(sequence.generate_state(1)[0])
    random.seed(word)
    np.random.seed(word)
    torch.manual_seed(word)
    return np.random.default_rng(sequence)
