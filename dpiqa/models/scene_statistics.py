"""Natural-scene statistics as a layer: moments of contrast-normalised brightness and colour in each cell.

Photographs of good quality have much the same distribution of locally normalised brightness, and distortions change it
(Ruderman 1994; Mittal et al., BRISQUE, IEEE TIP 2012, section III). BRISQUE fits generalised Gaussians to a whole
picture; here their moments stay a map, one value per cell, so that a network learns what to make of them and how much
they vary over the picture. Colour is opponent colour, as in IL-NIQE (Zhang et al., IEEE TIP 2015, section III-C).
No weights: a few thousand labelled photographs teach a network to read these maps, but not to invent them.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

CELL = 32  #: pixels of the picture a side of a cell
SCALES = 3  #: octaves: the picture, its half, its quarter
CHANNELS = SCALES * 23 * 3  #: of `scene_statistics`: 20 moments, two of the deviation, one of the value, a colour
_WINDOW = 7  #: pixels a side of the Gaussian window of local mean and deviation (BRISQUE: 7, deviation 7/6)
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))  #: right, below and the two diagonals
_OPPONENTS = ((0.299, 0.587, 0.114), (0.3, 0.04, -0.35), (0.34, -0.6, 0.17))  #: rows from RGB (Geusebroek et al. 2001)
_LEVELS = 255  #: the constant 1 in BRISQUE's normalisation belongs to values of 0-255
_BELL = [math.exp(-((index - _WINDOW // 2) ** 2) / (2 * (_WINDOW / 6) ** 2)) for index in range(_WINDOW)]
_WEIGHTS = [height / sum(_BELL) for height in _BELL]  #: of the window, from one side to the other
_SMALLEST = 0.01  #: moment, before the logarithm
_SMALLEST_DEVIATION = 0.1  #: of 255


def scene_statistics(images: torch.Tensor) -> torch.Tensor:
    """(B, 3, S, S) in [0, 1], S a multiple of `CELL` -> (B, CHANNELS, S/CELL, S/CELL) float32.

    For each octave and colour: the mean sizes and squares of the normalised values and of the products of neighbours,
    those above and those below zero apart, and the mean local deviation and its square, all as logarithms; and the mean
    value, 0-1. In float32 whatever comes in: differences of squares lose too much in less. Not to be differentiated.
    """
    with torch.autocast(images.device.type, enabled=False):
        if images.device.type == "cpu":  # one by one: a batch falls out of the cache, which takes half as long again
            return torch.cat([_all_octaves(images[row : row + 1]) for row in range(len(images))])
        return _all_octaves(images)


def _all_octaves(images: torch.Tensor) -> torch.Tensor:
    opponents = torch.tensor(_OPPONENTS, device=images.device) * _LEVELS
    values = torch.einsum("oc,bchw->bohw", opponents, images.float().contiguous())
    channels: list[torch.Tensor] = []
    for octave in range(SCALES):
        if octave:
            values = _halved(values)
        channels += _octave(values, CELL >> octave)
    return torch.cat(channels, dim=1)


def _octave(values: torch.Tensor, cell: int) -> list[torch.Tensor]:
    mean = _blurred(values)
    variance = (_blurred(values * values) - mean * mean).clamp_min_(0)
    deviation = variance.sqrt()
    normalised = (values - mean).div_(deviation + 1)
    around = F.pad(normalised, (1, 1, 1, 1), mode="replicate")
    height, width = values.shape[-2:]
    neighbours = [around[:, :, 1 + down :, 1 + right :][:, :, :height, :width] for down, right in _NEIGHBOURS]
    products = [moment for neighbour in neighbours for moment in _moments(normalised * neighbour, cell)]
    moments = torch.cat([*_moments(normalised, cell), *products], dim=1)
    deviations = torch.cat([_cells(deviation, cell), _cells(variance, cell)], dim=1)
    return [(moments + _SMALLEST).log(), (deviations + _SMALLEST_DEVIATION).log(), _cells(values, cell) / _LEVELS]


def _moments(values: torch.Tensor, cell: int) -> list[torch.Tensor]:
    """Return the mean size and square of the values above zero and below it. Overwrites `values`."""
    above = values.clamp_min(0)
    below = values.sub_(above)
    sizes = [_cells(above, cell), -_cells(below, cell)]
    return [*sizes, *(_cells(side.mul_(side), cell) for side in (above, below))]


def _cells(values: torch.Tensor, cell: int) -> torch.Tensor:
    """Return the mean over cells.

    Whole rows first: on a CPU twice as fast as both sides at once; average pooling is slower.
    """
    batch, channels, height, width = map(int, values.shape)  # constants in a network that is exported
    rows = values.view(batch, channels, height // cell, cell, width).sum(dim=3)
    return rows.view(batch, channels, height // cell, width // cell, cell).sum(dim=4) / (cell * cell)


def _halved(values: torch.Tensor) -> torch.Tensor:
    """Return the mean of 2 x 2 pixels, by sums of slices: on a CPU several times as fast as average pooling."""
    rows = values[..., ::2, :] + values[..., 1::2, :]
    return (rows[..., ::2] + rows[..., 1::2]) / 4


def _blurred(values: torch.Tensor) -> torch.Tensor:
    """Return the mean under the Gaussian window, one side after the other; the picture is mirrored at its edges."""
    padded = F.pad(values, (_WINDOW // 2,) * 4, mode="reflect")
    return _weighted(_weighted(padded, dim=3), dim=2)


def _weighted(padded: torch.Tensor, dim: int) -> torch.Tensor:
    """Return the sum of copies that are shifted under the window's weights.

    On a CPU fifteen times as fast as a grouped convolution.
    """
    extent = padded.shape[dim] - _WINDOW + 1
    total = padded.narrow(dim, 0, extent) * _WEIGHTS[0]
    for shift, weight in enumerate(_WEIGHTS[1:], start=1):
        total.add_(padded.narrow(dim, shift, extent), alpha=weight)
    return total


def check_size(channels: int, input_size: int) -> None:
    """Raise `ValueError` where a network has `channels` of statistics and cells do not fill its pictures."""
    if channels and input_size % CELL:
        raise ValueError(f"statistics_channels need an input_size that is a multiple of {CELL}, not {input_size}")


class StatisticsBranch(nn.Module):
    """Channels of a quality map that are learned from the statistics of each cell, by two layers."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.standard = nn.BatchNorm2d(CHANNELS, affine=False)
        self.mix = _layer(CHANNELS, channels)
        self.combine = _layer(channels, channels)

    def forward(self, statistics: torch.Tensor) -> torch.Tensor:
        """`scene_statistics` -> (B, channels, S/CELL, S/CELL), not negative."""
        standard = self.standard(statistics.to(next(self.mix.parameters()).dtype)).clamp(-_FARTHEST, _FARTHEST)
        channels: torch.Tensor = self.combine(self.mix(standard))
        return channels


def _layer(channels_in: int, channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels_in, channels, 1), nn.BatchNorm2d(channels), nn.ReLU())


_FARTHEST = 6.0  #: deviations from the mean; a black cell's logarithms lie much farther out
