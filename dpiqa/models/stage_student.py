"""A student that reads every stage of an ImageNet backbone: means and deviations of all channels, and a regressor.

Low stages see sharpness, noise and compression, high ones what the picture shows; people judge both. Pooling each stage
over the picture keeps what a classifier's last layer has learned to ignore. This network is the project's own.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from dpiqa.models.backbone import build_backbone, stage_width
from dpiqa.models.regressor import LEAST_VARIANCE
from dpiqa.models.scene_statistics import CHANNELS, scene_statistics
from dpiqa.models.scoring_network import ScoringNetwork
from dpiqa.models.student_config import StudentConfig

GRID = 32  #: pixels of the picture a side of a cell of `EarlyStages`; their middle is exact where 4 of them fit
_FARTHEST = 8.0  #: deviations from the mean of the training pictures; what lies farther out counts as this far
_ROOT_OFFSET = 1e-4  #: keeps the root's slope finite at zero


class EarlyStages(NamedTuple):
    """Output of the first stages of a backbone for pictures (B, 3, S, S): all that the rest of the network needs."""

    stages: int  #: number of them
    features: torch.Tensor  #: (B, C, S/r, S/r) of the last of them, r its stride
    #: (B, 2K, S/GRID, S/GRID): mean of each of the K channels of these stages in a cell, then mean of its square
    cells: torch.Tensor


class FurtherInputs(NamedTuple):
    """Inputs of a regressor besides moments, as its first layers would add them up: a teacher's quality map, say."""

    linear: torch.Tensor  #: (B, 1), added to the output of the linear layer
    hidden: torch.Tensor  #: (B, `hidden`), added to the first hidden units before their activation


class StageStudent(ScoringNetwork):
    """Moments of all stages, their signed roots standardised; a linear layer and a perceptron, whose sum is the score.

    The backbone's normalisation layers and the standardisation keep their statistics while the network is trained.
    """

    base_model: Any
    width: int  #: number of moments
    unit: float = 1.0  #: of the sum of the layers, in MOS/100; another only while it is trained

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.config, self.view_size = config, config.view_size
        backbone: Any = build_backbone(config.backbone, config.backbone_args, config.batchnorm_eps)
        self.base_model = backbone
        self.reads_statistics = config.statistics_channels > 0
        channels: int = sum(map(stage_width, backbone.blocks)) + backbone.num_features
        self.width = 4 * (channels + (CHANNELS if self.reads_statistics else 0))
        self.standard = nn.BatchNorm1d(self.width, affine=False)
        self.reader_dropout, self.dropout = nn.Dropout(config.dropout / 3), nn.Dropout(config.dropout)
        self.linear = nn.Linear(self.width, 1)
        self.fc1 = nn.Linear(self.width, config.hidden)
        self.fc2 = nn.Linear(config.hidden, config.hidden // 4)
        self.fc3 = nn.Linear(config.hidden // 4, 1)
        nn.init.zeros_(self.linear.weight)  # until a regression sets it
        self.train()

    @property
    def input_dtype(self) -> torch.dtype:
        """float32 where it looks at differences of neighbouring pixels."""
        return torch.float32 if self.reads_statistics else super().input_dtype

    @property
    def regressor(self) -> list[nn.Linear]:
        """Layers that make the score of the moments."""
        return [self.linear, self.fc1, self.fc2, self.fc3]

    @property
    def last_layers(self) -> list[nn.Linear]:
        """Layers whose sum is the score."""
        return [self.linear, self.fc3]

    def train(self, mode: bool = True) -> "StageStudent":
        """Switch dropout. What pictures are normalised by does not change."""
        super().train(mode)
        self.base_model.eval()
        self.standard.eval()
        return self

    def forward(
        self,
        images: torch.Tensor,
        statistics: torch.Tensor | None = None,
        early: EarlyStages | None = None,
        moments: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Score images.

        Args:
            images: (B, 3, S, S) in [0, 1], not normalised; S a multiple of 32.
            statistics: those of `images`, if they are known already, as `scene_statistics` returns them.
            early: output of the first stages for `images`, if it is known already.
            moments: those of `images`, if they are known already; nothing else is needed then.

        Returns:
            Scores (B,), MOS/100, not clamped, and the moments (B, `width`) that they are made of.
        """
        if moments is None:
            moments = self.moments(images, statistics, early)
        return self.regress(moments), moments

    def moments(
        self, images: torch.Tensor, statistics: torch.Tensor | None = None, early: EarlyStages | None = None
    ) -> torch.Tensor:
        """Return signed roots of moments of all channels, (B, `width`). Arguments as of `forward`."""
        return self.moments_of(self.maps(images, early), images, statistics, early)

    def moments_of(
        self,
        maps: Sequence[torch.Tensor],
        images: torch.Tensor,
        statistics: torch.Tensor | None = None,
        early: EarlyStages | None = None,
    ) -> torch.Tensor:
        """Return the same as `moments`, given `maps` of the images and of `early`.

        Means first, then deviations, then both of the middle quarter of the picture.
        """
        if self.reads_statistics:
            maps = [*maps, scene_statistics(images) if statistics is None else statistics]
        parts: list[torch.Tensor] = []
        for part in (_whole, _middle):
            means: list[torch.Tensor] = []
            deviations: list[torch.Tensor] = []
            if early is not None:
                mean, square = part(early.cells).float().mean(dim=(2, 3)).chunk(2, dim=1)
                means.append(mean)
                deviations.append(_deviation(square - mean * mean))
            for features in maps:
                exact = part(features).float()
                mean = exact.mean(dim=(2, 3), keepdim=True)
                means.append(mean.flatten(1))
                # On a CPU ten times as fast as `var`.
                deviations.append(_deviation((exact - mean).square().mean(dim=(2, 3))))
            parts += [*means, *deviations]
        moments = torch.cat(parts, dim=1)
        roots: torch.Tensor = (moments.abs() + _ROOT_OFFSET).sqrt() - _ROOT_OFFSET**0.5
        return moments.sign() * roots

    def regress(self, moments: torch.Tensor, further: FurtherInputs | None = None) -> torch.Tensor:
        """Moments (B, `width`) -> scores (B,)."""
        values = self.reader_dropout(self.standardised(moments))
        linear, first = self.linear(values), self.fc1(values)
        if further is not None:
            linear, first = linear + further.linear, first + further.hidden
        hidden = F.gelu(self.fc2(self.dropout(F.gelu(first))))
        score: torch.Tensor = linear + self.fc3(hidden)
        return score.squeeze(1) * self.unit

    def standardised(self, moments: torch.Tensor) -> torch.Tensor:
        """Return moments (B, `width`) in deviations from the mean of the training pictures, bounded."""
        values: torch.Tensor = self.standard(moments.to(self.linear.weight.dtype)).clamp(-_FARTHEST, _FARTHEST)
        return values

    def early(self, images: torch.Tensor, stages: int) -> EarlyStages:
        """Run the first `stages` stages, at least one, on images (B, 3, S, S), S a multiple of `GRID`."""
        side = images.shape[-1] // GRID
        features = self._stem(images)
        means: list[torch.Tensor] = []
        squares: list[torch.Tensor] = []
        for stage in self.base_model.blocks[:stages]:
            features = stage(features)
            exact = features.float()
            means.append(F.adaptive_avg_pool2d(exact, side))
            squares.append(F.adaptive_avg_pool2d(exact * exact, side))
        return EarlyStages(stages, features, torch.cat([*means, *squares], dim=1))

    def _stem(self, images: torch.Tensor) -> torch.Tensor:
        pixels = (images - self.config.pixel_mean) / self.config.pixel_deviation
        features: torch.Tensor = self.base_model.bn1(self.base_model.conv_stem(pixels.to(self.linear.weight.dtype)))
        return features

    def maps(self, images: torch.Tensor, early: EarlyStages | None = None) -> list[torch.Tensor]:
        """Return the outputs of the stages that are not in `early`, and of the last convolution."""
        first = 0 if early is None else early.stages
        features = self._stem(images) if early is None else early.features.to(self.linear.weight.dtype)
        maps: list[torch.Tensor] = []
        for stage in self.base_model.blocks[first:]:
            features = stage(features)
            maps.append(features)
        return [*maps, self.base_model.bn2(self.base_model.conv_head(features))]


def _whole(maps: torch.Tensor) -> torch.Tensor:
    return maps


def _middle(maps: torch.Tensor) -> torch.Tensor:
    """Return the quarter of maps (B, C, h, w) where photographers put what should be sharp."""
    top, left = (side // 4 for side in maps.shape[-2:])
    return maps[..., top : maps.shape[-2] - top, left : maps.shape[-1] - left]


def _deviation(variance: torch.Tensor) -> torch.Tensor:
    return (variance.clamp_min(0) + LEAST_VARIANCE).sqrt()
