"""What the networks learn from: squared error plus the order of every pair (DP-IQA, equations 9-11)."""

import torch
import torch.nn.functional as F


def ranking_loss(scores: torch.Tensor, labels: torch.Tensor, margin: float = 0.25) -> torch.Tensor:
    """Mean over all pairs of how much the better image's score falls short of the worse one's plus the margin.

    `scores`, `labels`: (B,); `margin` in units of the batch's standard deviation of labels. Pairs with equal labels
    have no order: they are left out, and a batch of nothing else costs nothing.
    """
    first, second = torch.triu_indices(len(labels), len(labels), 1, device=labels.device)
    order = torch.sign(labels[first] - labels[second])
    known = order != 0
    if not bool(known.any()):
        return scores.sum() * 0
    least = margin * float(labels.std())
    return F.margin_ranking_loss(scores[first[known]], scores[second[known]], order[known], margin=least)
