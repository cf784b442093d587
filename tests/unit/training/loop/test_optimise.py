"""Learning rates, parameter groups and averages of weights."""

import pytest
import torch
from support.training import toy_plan

from dpiqa.training.loop.optimise import MovingAverage, learning_rate, parameter_groups


def test_the_rate_warms_up_and_falls_as_a_cosine():
    plan = toy_plan(rate=1.0, warmup=0.05, floor=0.01)
    rates = [learning_rate(step, 100, plan) for step in range(100)]
    assert max(rates) == rates[4] == 1
    assert rates[0] == pytest.approx(0.2)
    assert rates == sorted(rates[:5]) + sorted(rates[5:], reverse=True)
    assert 0.01 <= rates[-1] < 0.02


def test_the_rate_steps_down_after_its_milestones():
    plan = toy_plan(epochs=30, rate=1.0, schedule="multistep", milestones=[10, 25], factor=0.2, warmup=0.0)
    rates = [learning_rate(step, 30 * 7, plan) for step in range(30 * 7)]
    assert rates[: 10 * 7] == [1.0] * 70
    assert rates[10 * 7 : 25 * 7] == pytest.approx([0.2] * 105)
    assert rates[25 * 7 :] == pytest.approx([0.04] * 35)


def test_matrices_decay_vectors_do_not_and_some_learn_slowly():
    network = torch.nn.ModuleDict({"fc1": torch.nn.Linear(2, 2), "fc2": torch.nn.Linear(2, 2)})
    network["fc2"].bias.requires_grad = False
    groups = parameter_groups(network, 0.1, {"fc1.weight": 0.01})
    sizes = {(group["factor"], group["weight_decay"], len(group["params"])) for group in groups}
    assert sizes == {(0.01, 0.1, 1), (1.0, 0.0, 1), (1.0, 0.1, 1)}


def test_the_average_forgets_its_start_and_gives_the_weights_back():
    network = torch.nn.Linear(1, 1, bias=False)
    average = MovingAverage(network, decay=0.9)
    torch.nn.init.zeros_(network.weight)
    first = float(average.tensors["weight"])
    average.update()
    assert float(average.tensors["weight"]) == pytest.approx(first * 0.1, abs=1e-7)  # memory of one update: 1/10
    for _ in range(200):
        average.update()
    with average.in_place():
        assert network.weight.item() == pytest.approx(0, abs=1e-6)
    network.weight.data.fill_(5)
    with average.in_place():
        assert network.weight.item() < 1
    assert network.weight.item() == 5
