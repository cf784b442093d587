"""The EfficientNets of this project's own models, layer for layer and name for name as timm builds them.

timm is the library for these networks, and every other one comes from it. Importing it takes longer than torch itself,
as it brings torchvision and the compiler of torch: too long for `dpiqa score` on one picture. A test compares both.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True, slots=True)
class Stage:
    """Blocks of one kind; the first has the stride and changes the number of channels."""

    block: type[nn.Module]
    repeats: int
    kernel: int  #: pixels a side
    stride: int
    expansion: int  #: channels inside a block, times those that come in
    channels: int
    squeeze: float = 0  #: channels of squeeze-and-excitation, of those that come in; 0: none


@dataclass(frozen=True, slots=True)
class Design:
    """An EfficientNet before its channels are multiplied."""

    stem: int  #: channels
    stages: tuple[Stage, ...]
    features: int  #: channels that the network puts out
    activation: Callable[..., torch.Tensor]
    same_padding: bool = False  #: TensorFlow's: with a stride, one pixel less before the picture than after it
    is_scaled: bool = True  #: whether stem and features are multiplied, too
    round_limit: float = 0.0  #: rounding to a multiple of 8 may leave this share of a number of channels


class Convolution(nn.Conv2d):
    """A convolution without bias that keeps the picture's size, divided by its stride."""

    def __init__(self, inside: int, out: int, kernel: int, design: Design, stride: int = 1, groups: int = 1) -> None:
        self._uneven = design.same_padding and stride > 1
        padding = 0 if self._uneven else (stride - 1 + kernel - 1) // 2
        super().__init__(inside, out, kernel, stride, padding, groups=groups, bias=False)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C', H/stride, W/stride), rounded up."""
        if self._uneven:
            kernel, stride = self.kernel_size[0], self.stride[0]
            missing = [max((math.ceil(size / stride) - 1) * stride + kernel - size, 0) for size in maps.shape[:1:-1]]
            maps = F.pad(maps, [part for total in missing for part in (total // 2, total - total // 2)])
        return super().forward(maps)


class Normalisation(nn.BatchNorm2d):
    """Batch normalisation, then the activation if there is one."""

    def __init__(self, channels: int, activation: Callable[..., torch.Tensor] | None = None) -> None:
        super().__init__(channels)
        self._activation = activation

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        normalised = super().forward(maps)
        return normalised if self._activation is None else self._activation(normalised, inplace=True)


class SqueezeExcite(nn.Module):
    """Weighs channels by their mean over the picture."""

    def __init__(self, channels: int, squeezed: int, activation: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self._activation = activation
        self.conv_reduce = nn.Conv2d(channels, squeezed, 1)
        self.conv_expand = nn.Conv2d(squeezed, channels, 1)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        weights = self._activation(self.conv_reduce(maps.mean((2, 3), keepdim=True)), inplace=True)
        weighed: torch.Tensor = maps * self.conv_expand(weights).sigmoid()
        return weighed


class Block(nn.Module):
    """A part of a stage, with a bypass where the shape stays. Its layers run in the order in which they are added."""

    def __init__(self, inside: int, stage: Stage, stride: int, design: Design) -> None:
        super().__init__()
        self._has_bypass = stride == 1 and inside == stage.channels
        self._add_layers(inside, stage, stride, design)

    def _add_layers(self, inside: int, stage: Stage, stride: int, design: Design) -> None:
        raise NotImplementedError

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C', H/stride, W/stride)."""
        features = maps
        for layer in self.children():
            features = layer(features)
        return features + maps if self._has_bypass else features


class ConvolutionBlock(Block):
    """One convolution."""

    def _add_layers(self, inside: int, stage: Stage, stride: int, design: Design) -> None:
        self.conv = Convolution(inside, stage.channels, stage.kernel, design, stride)
        self.bn1 = Normalisation(stage.channels, design.activation)


class SeparableBlock(Block):
    """A convolution of each channel by itself, then one across channels."""

    def _add_layers(self, inside: int, stage: Stage, stride: int, design: Design) -> None:
        self.conv_dw = Convolution(inside, inside, stage.kernel, design, stride, groups=inside)
        self.bn1 = Normalisation(inside, design.activation)
        self.conv_pw = Convolution(inside, stage.channels, 1, design)
        self.bn2 = Normalisation(stage.channels)


class EdgeBlock(Block):
    """A convolution to more channels, then one across channels to fewer."""

    def _add_layers(self, inside: int, stage: Stage, stride: int, design: Design) -> None:
        wide = rounded(inside * stage.expansion)
        self.conv_exp = Convolution(inside, wide, stage.kernel, design, stride)
        self.bn1 = Normalisation(wide, design.activation)
        self.conv_pwl = Convolution(wide, stage.channels, 1, design)
        self.bn2 = Normalisation(stage.channels)


class InvertedBlock(Block):
    """A convolution across channels to more, one of each channel by itself, and one across channels to fewer."""

    def _add_layers(self, inside: int, stage: Stage, stride: int, design: Design) -> None:
        wide = rounded(inside * stage.expansion)
        self.conv_pw = Convolution(inside, wide, 1, design)
        self.bn1 = Normalisation(wide, design.activation)
        self.conv_dw = Convolution(wide, wide, stage.kernel, design, stride, groups=wide)
        self.bn2 = Normalisation(wide, design.activation)
        if stage.squeeze:
            squeezed = round(wide * stage.squeeze / stage.expansion)
            self.se = SqueezeExcite(wide, squeezed, design.activation)
        self.conv_pwl = Convolution(wide, stage.channels, 1, design)
        self.bn3 = Normalisation(stage.channels)


class EfficientNet(nn.Module):
    """An EfficientNet without pooling and classifier: (B, 3, S, S) -> (B, `num_features`, S/32, S/32)."""

    def __init__(self, design: Design, channel_multiplier: float = 1.0) -> None:
        super().__init__()

        def scaled(channels: int) -> int:
            return rounded(channels * channel_multiplier, design.round_limit)

        inside = scaled(design.stem) if design.is_scaled else design.stem
        self.num_features = scaled(design.features) if design.is_scaled else design.features
        self.conv_stem = Convolution(3, inside, 3, design, stride=2)
        self.bn1 = Normalisation(inside, design.activation)
        SqueezeExcite(8, 8, design.activation)  # timm tries its layer here: a seed gives the same random weights
        stages = []
        for stage in design.stages:
            sizes, stride, blocks = replace(stage, channels=scaled(stage.channels)), stage.stride, []
            for _ in range(stage.repeats):
                blocks.append(stage.block(inside, sizes, stride, design))
                inside, stride = sizes.channels, 1
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        self.conv_head = Convolution(inside, self.num_features, 1, design)
        self.bn2 = Normalisation(self.num_features, design.activation)
        self.apply(_initialise)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """See the class."""
        features = self.blocks(self.bn1(self.conv_stem(images)))
        maps: torch.Tensor = self.bn2(self.conv_head(features))
        return maps


def rounded(channels: float, limit: float = 0.9) -> int:
    """Return the nearest multiple of 8, at least 8; the next one where it is less than `limit` of `channels`."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < limit * channels else nearest


def _initialise(layer: nn.Module) -> None:
    """Set random weights as EfficientNet's authors do: by the number of outputs that an input reaches."""
    if isinstance(layer, nn.Conv2d) and not layer.weight.is_meta:  # there it would import the compiler of torch
        fan_out = layer.kernel_size[0] * layer.kernel_size[1] * layer.out_channels // layer.groups
        nn.init.normal_(layer.weight, 0, math.sqrt(2 / fan_out))
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


#: By timm's names of the networks.
DESIGNS = {
    "test_efficientnet": Design(
        stem=24,
        stages=(
            Stage(ConvolutionBlock, 1, 3, 1, 1, 16),
            Stage(EdgeBlock, 1, 3, 2, 4, 24),
            Stage(EdgeBlock, 1, 3, 2, 4, 32),
            Stage(InvertedBlock, 1, 3, 2, 4, 48, squeeze=0.25),
            Stage(InvertedBlock, 1, 3, 2, 4, 64, squeeze=0.25),
        ),
        features=256,
        activation=F.silu,
    ),
    "tf_efficientnet_lite0": Design(
        stem=32,
        stages=(
            Stage(SeparableBlock, 1, 3, 1, 1, 16),
            Stage(InvertedBlock, 2, 3, 2, 6, 24),
            Stage(InvertedBlock, 2, 5, 2, 6, 40),
            Stage(InvertedBlock, 3, 3, 2, 6, 80),
            Stage(InvertedBlock, 3, 5, 1, 6, 112),
            Stage(InvertedBlock, 4, 5, 2, 6, 192),
            Stage(InvertedBlock, 1, 3, 1, 6, 320),
        ),
        features=1280,
        activation=F.relu6,
        same_padding=True,
        is_scaled=False,
        round_limit=0.9,
    ),
}
