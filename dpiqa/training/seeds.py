"""Randomness from (seed, step): nothing to store, nothing that an interruption could change."""

import random

import numpy as np
import torch

_ORDER, _STEP = 0, 1  #: two families of generators that never meet


def order_generator(seed: int, epoch: int) -> np.random.Generator:
    """Return the generator that shuffles one epoch; the same in every process."""
    return np.random.default_rng((_ORDER, seed, epoch))


def step_generator(seed: int, batch: int) -> np.random.Generator:
    """Return the generator of one batch of the run, and seed Python's, numpy's and torch's own (dropout) alike."""
    sequence = np.random.SeedSequence((_STEP, seed, batch))
    word = int(sequence.generate_state(1)[0])
    random.seed(word)
    np.random.seed(word)
    torch.manual_seed(word)
    return np.random.default_rng(sequence)
