"""Networks that score pictures, and the inputs they take: a smaller copy, overlapping views, a seed of the content."""

import hashlib
from collections.abc import Callable
from functools import partial
from itertools import product

import numpy as np
import torch
from torch import nn


def shrunk(images: torch.Tensor, factor: int) -> torch.Tensor:
    """(B, 3, S, S) -> (B, 3, S / factor, S / factor): the mean of `factor` x `factor` pixels.

    By sums of slices, in float32: on a CPU several times as fast as average pooling.
    """
    if factor == 1:
        return images
    rows = sum((images[..., row::factor, :] for row in range(1, factor)), start=images[..., ::factor, :].float())
    total = sum((rows[..., column::factor] for column in range(1, factor)), start=rows[..., ::factor])
    return (total / (factor * factor)).to(images.dtype)


def score_in_views(
    network: Callable[[torch.Tensor], tuple[torch.Tensor, ...]], images: torch.Tensor, view_size: int | None
) -> torch.Tensor:
    """Score `images` (B, 3, S, S) -> (B,), as the mean over overlapping views of `view_size` pixels a side.

    For networks that were trained on crops. None, or a size of at least S: the whole images are scored at once.
    """
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
    """Return evenly spaced starts of the fewest views of `size` that cover `extent`: (512, 192) -> [0, 160, 320]."""
    count = -(-extent // size)
    return [round(i * (extent - size) / (count - 1)) for i in range(count)]


def content_seeds(pixels: np.ndarray) -> list[int]:
    """`pixels` (B, H, W, 3) uint8, as prepared for the model -> a seed for each image: 63 bits of its sha256.

    The same bytes of an object give the same pixels and the same seed, in any batch, worker and precision.
    """
    return [int.from_bytes(hashlib.sha256(image.tobytes()).digest()[:8], "big") >> 1 for image in pixels]


class ScoringNetwork(nn.Module):
    """A network that `TorchScorer` runs.

    Forward: images (B, 3, S, S) in [0, 1], not normalised, of `input_dtype` -> scores (B,), and a map or vector of
    each image.
    """

    view_size: int | None = None  #: score = mean over views of so many pixels a side; None: the whole picture at once
    mirrored: bool = False  #: every picture or view is scored mirrored, too, for networks whose second output is a map

    @property
    def input_dtype(self) -> torch.dtype:
        """Precision of the images: that of the weights, unless a network needs more."""
        return next((parameter.dtype for parameter in self.parameters()), torch.float32)

    @property
    def draws_noise(self) -> bool:
        """Return whether forward takes `seeds`, one for each image."""
        return False

    def prepare(self) -> None:
        """Compute once everything that is independent of the image. For inference only: it cannot be undone."""

    def seeded(self, pixels: np.ndarray) -> Callable[..., tuple[torch.Tensor, ...]]:
        """Return the network as a function of images; one that draws noise gets each image's own seed.

        `pixels`: (B, H, W, 3) uint8, of which the images are made. Views of one image have the same seed.
        """
        return partial(self, seeds=content_seeds(pixels)) if self.draws_noise else self

    def scoring(self, pixels: np.ndarray) -> Callable[[torch.Tensor], tuple[torch.Tensor, ...]]:
        """Return what scores images or views: `seeded`, or the mean of both ways round where it is `mirrored`."""
        network = self.seeded(pixels)
        return partial(_both_ways, network) if self.mirrored else network


def _both_ways(
    network: Callable[[torch.Tensor], tuple[torch.Tensor, ...]], images: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """Return the means of scores and of maps of images and of their mirror images."""
    scores, maps = network(images)
    mirrored_scores, mirrored_maps = network(images.flip(-1))
    return (scores + mirrored_scores) / 2, (maps + mirrored_maps.flip(-1)) / 2
