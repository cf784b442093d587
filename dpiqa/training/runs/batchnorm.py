"""Scores while training: without dropout, and standardised like the batch that was just learned from."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


class BatchStatistics:
    """Mean and variance that each batch normalisation of a network used for the last batch it learned from."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
        self._statistics: dict[_BatchNorm, tuple[torch.Tensor, torch.Tensor]] = {}

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Record mean and variance of the batches that pass while the block runs. Frozen layers are left out."""
        hooks = [norm.register_forward_pre_hook(self._record) for norm in self._norms]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the network score while the block runs, standardised as in the last batch; gradients flow.

        Distorted copies are unlike the pictures that will be scored: if they entered the batch's normalisation they
        would cost .02 of SRCC. An order must hold between scores of one kind: against those under dropout it drives
        originals up. And running averages lag behind the weights: the order would hold for another standardisation than
        the one that the labels' error is measured under (docs/training.md, row 40).
        """
        training = [(module, module.training) for module in self._network.modules()]
        running = [(norm, norm.running_mean, norm.running_var) for norm in self._statistics]
        self._network.eval()
        for norm, (mean, variance) in self._statistics.items():
            norm.running_mean, norm.running_var = mean, variance
        try:
            yield
        finally:
            for norm, running_mean, running_variance in running:
                norm.running_mean, norm.running_var = running_mean, running_variance
            for module, before in training:
                module.training = before  # not train(before), which would change all parts of a module too

    @torch.no_grad()
    def _record(self, norm: nn.Module, inputs: tuple[Any, ...]) -> None:
        if norm.training and isinstance(norm, _BatchNorm):
            features: torch.Tensor = inputs[0].float()
            variance, mean = torch.var_mean(features, dim=[0, *range(2, features.ndim)], correction=0)
            self._statistics[norm] = (mean, variance)
