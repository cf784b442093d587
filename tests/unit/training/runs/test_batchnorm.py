"""Scoring while training."""

import pytest
import torch
from torch import nn

from dpiqa.training.runs.batchnorm import BatchStatistics


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.ReLU(), nn.Dropout(0.5)).train()


@pytest.fixture
def batch():
    return torch.rand(4, 3, 8, 8)


def test_scores_are_standardised_for_the_batch_just_seen(network, batch):
    network[3].p = 0.0
    last = BatchStatistics(network)
    with last.recorded():
        learned = network(batch)
    network(10 * torch.rand(4, 3, 8, 8))  # not watched
    with last.applied():
        again, single = network(batch), network(batch[:1])
    assert torch.allclose(again, learned, atol=1e-5)
    assert torch.allclose(single, learned[:1], atol=1e-5)


def test_scoring_drops_nothing_and_leaves_the_network_as_it_was(network, batch):
    network[0].eval()  # a part that is frozen stays so
    last = BatchStatistics(network)
    with last.recorded():
        network(batch)
    mean, variance = network[1].running_mean, network[1].running_var
    kept = mean.clone(), variance.clone()
    with last.applied():
        assert torch.equal(network(batch), network(batch))
    assert [module.training for module in network.modules()] == [True, False, True, True, True]
    assert network[1].running_mean is mean
    assert network[1].running_var is variance
    assert torch.equal(mean, kept[0])
    assert torch.equal(variance, kept[1])


def test_a_frozen_normalisation_keeps_its_running_averages(network, batch):
    network[1].eval()
    last = BatchStatistics(network)
    with last.recorded():
        network(batch)
    with last.applied():
        seen = network(batch)
    network.eval()
    assert torch.equal(seen, network(batch))


def test_gradients_flow_through_scores_after_the_batch_has_moved_the_averages(network, batch):
    last = BatchStatistics(network)
    with last.recorded():
        learned = network(batch)
    with last.applied():
        scored = network(batch[:2])
    (learned.sum() + scored.square().sum()).backward()
    assert network[0].weight.grad.abs().sum() > 0
