"""What the networks learn from: squared error plus the order of every pair (DP-IQA, equations 9-11)."""

import torch
import torch.nn.functional as F

MARGIN = 0.25  #: of the batch's label deviation


def quality_loss(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean squared error + margin ranking over all pairs of the batch; both (B,), in units of the labels' deviation."""
    return F.mse_loss(scores, labels) + ranking_loss(scores, labels)


def ranking_loss(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean over all pairs of how much the better image's score falls short of the worse one's plus the margin."""
    first, second = torch.triu_indices(len(labels), len(labels), 1)
    order = torch.sign(labels[first] - labels[second])
    margin = MARGIN * float(labels.std())
    return F.margin_ranking_loss(scores[first], scores[second], order, margin=margin)
