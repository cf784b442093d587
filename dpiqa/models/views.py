"""Scoring a picture as the mean of overlapping views, for networks that were trained on crops."""

from collections.abc import Callable
from itertools import product

import torch


def score_in_views(
    network: Callable[[torch.Tensor], tuple[torch.Tensor, ...]], images: torch.Tensor, view_size: int | None
) -> torch.Tensor:
    """Score `images` (B, 3, S, S) -> (B,): as wholes, or as the mean over views of `view_size` pixels a side."""
    extent = images.shape[-1]
    if view_size is None or view_size >= extent:
        scores: torch.Tensor = network(images)[0]
        return scores
    corners = view_corners(extent, view_size)
    views = [
        network(images[:, :, top : top + view_size, left : left + view_size])[0]
        for top, left in product(corners, corners)
    ]
    return torch.stack(views).mean(dim=0)


def view_corners(extent: int, size: int) -> list[int]:
    """Evenly spaced starts of the fewest views of `size` that cover `extent`: (512, 192) -> [0, 160, 320]."""
    count = -(-extent // size)
    return [round(i * (extent - size) / (count - 1)) for i in range(count)]
