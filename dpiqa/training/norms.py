"""Scoring while training: without dropout, and standardised like the batch that was just learned from."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


class LastBatch:
    """Mean and variance that each batch normalisation of a network found in the last batch it learned from."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
        self._found: dict[_BatchNorm, tuple[torch.Tensor, torch.Tensor]] = {}

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Remember what the batches that pass while the block runs are standardised by. Frozen layers are left out."""
        hooks = [norm.register_forward_pre_hook(self._remember) for norm in self._norms]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @contextmanager
    def scoring(self) -> Iterator[None]:
        """Let the network compute as it would score, were it standardised for the last batch; gradients flow.

        Spoiled copies are unlike the pictures that will be scored: let into the batch's normalisation they cost .02 of
        SRCC. An order must hold between scores of one kind: against those under dropout it drives originals up. And
        running averages lag behind the weights: the order would hold for another standardisation than the one that
        the labels' error is measured under (docs/training.md, row 40).
        """
        training = [(module, module.training) for module in self._network.modules()]
        running = [(norm, norm.running_mean, norm.running_var) for norm in self._found]
        self._network.eval()
        for norm, (mean, variance) in self._found.items():
            norm.running_mean, norm.running_var = mean, variance
        try:
            yield
        finally:
            for norm, known_mean, known_variance in running:
                norm.running_mean, norm.running_var = known_mean, known_variance
            for module, before in training:
                module.training = before  # not train(before), which would change all parts of a module too

    @torch.no_grad()
    def _remember(self, norm: nn.Module, given: tuple[Any, ...]) -> None:
        if norm.training and isinstance(norm, _BatchNorm):
            seen: torch.Tensor = given[0].float()
            variance, mean = torch.var_mean(seen, dim=[0, *range(2, seen.ndim)], correction=0)
            self._found[norm] = (mean, variance)
