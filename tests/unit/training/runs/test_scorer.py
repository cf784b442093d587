"""The loss of scorers, and tasks with scene statistics."""

import pytest
import torch

from dpiqa.training.runs.scorer import ranking_loss


def test_pairs_in_the_right_order_beyond_the_margin_cost_nothing():
    labels = torch.tensor([0.0, 1.0, 2.0])
    assert ranking_loss(labels, labels) == 0
    margin = 0.25 * float(labels.std())
    assert ranking_loss(torch.zeros(3), labels) == pytest.approx(margin)
    assert ranking_loss(-labels, labels) == pytest.approx((1 + 2 + 1) / 3 + margin)


def test_equal_labels_have_no_order():
    scores = torch.tensor([0.3, 0.9, 0.1], requires_grad=True)
    assert ranking_loss(scores, torch.ones(3)) == 0
    ranking_loss(scores, torch.ones(3)).backward()
    assert torch.equal(scores.grad, torch.zeros(3))
    single = torch.tensor([0.5], requires_grad=True)
    assert ranking_loss(single, torch.ones(1)) == 0
