"""Regressor and decoder of scorers: initialisation, normalisation while training, and calibration at the end."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import structlog
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from dpiqa.models.quality_decoder import QfdConfig, QualityFeatureDecoder
from dpiqa.models.regressor import MapPooling
from dpiqa.models.student import Student
from dpiqa.models.student_config import StudentConfig
from dpiqa.training.config.kinds import RegressorStart, ScorerModelConfig
from dpiqa.training.config.precision import Arithmetic
from dpiqa.training.data.labelled import Labelled
from dpiqa.training.runs.validation import predict

log = structlog.get_logger()
STEEPEST = 10.0  #: steepest line that calibration accepts


def begin_regressor(
    network: Student | QualityFeatureDecoder, sizes: StudentConfig | QfdConfig, begin: RegressorStart, centre: float
) -> None:
    """Initialise the regressor of a new network. `centre`: mean of the labels."""
    if sizes.pooling is MapPooling.MOMENTS:  # it sees averages already: only its output is placed
        with torch.no_grad():
            network.fc3.bias.fill_(centre)
    elif begin is RegressorStart.POOLING:
        begin_as_pooling(network.fc1, network.fc3, sizes.map_size**2, centre)


def begin_as_pooling(first: nn.Linear, last: nn.Linear, cells: int, centre: float) -> None:
    """Give every cell of a channel the same weight in `first`, and start `last` at the labels' mean.

    The regressor then begins as an average over the picture and learns from there which cells matter; a few thousand
    photographs are too few to learn averaging itself from a random start.
    """
    channels = first.in_features // cells
    with torch.no_grad():
        weight = torch.randn(first.out_features, channels) * (2 / channels) ** 0.5 / cells
        first.weight.copy_(weight.repeat_interleave(cells, dim=1))
        first.bias.zero_()
        last.bias.fill_(centre)


def normalise(decoder: QualityFeatureDecoder) -> None:
    """Put a batch normalisation behind the decoder's convolutions and its pooling layer, for training only.

    The quality map's mean over a picture differs little between pictures; without normalisation a common drift of the
    features hides that difference, and a teacher trained from scratch diverges or stops learning.
    """
    for name in decoder.convolutions():
        layer = cast("nn.Conv2d", decoder.get_submodule(name))
        setattr(decoder, name, nn.Sequential(layer, nn.BatchNorm2d(layer.out_channels)))
    if decoder.config.pooling is MapPooling.CELLS:  # a reader of moments has a normalisation of its own
        setattr(decoder, "fc1", nn.Sequential(decoder.fc1, nn.BatchNorm1d(decoder.fc1.out_features)))  # noqa: B010


def fold(decoder: QualityFeatureDecoder) -> None:
    """Fold what `normalise` added into the layers: the same function in evaluation, and the published architecture."""
    decoder.eval()
    for name in decoder.convolutions():
        convolution, norm = cast("tuple[nn.Conv2d, nn.BatchNorm2d]", tuple(decoder.get_submodule(name).children()))
        setattr(decoder, name, fuse_conv_bn_eval(convolution, norm))
    if decoder.config.pooling is MapPooling.CELLS:
        linear, pooled_norm = cast("tuple[nn.Linear, nn.BatchNorm1d]", tuple(decoder.get_submodule("fc1").children()))
        decoder.fc1 = fuse_linear_bn_eval(linear, pooled_norm)


def calibrate_on(
    config: ScorerModelConfig, network: nn.Module, last: Sequence[nn.Linear], data: Labelled, precision: Arithmetic
) -> None:
    """Calibrate a network whose score is the sum of the layers `last` on a fixed sample of one side's whole pictures.

    A network that fits its training pictures closely spreads its scores too far on others: such a network is better
    calibrated on the validation pictures, which then determine two more numbers.
    """
    if config.calibrate_on == 0:
        return
    rows = data.train if config.calibrate_side == "train" else data.val
    sample = np.random.default_rng(0).permutation(rows)[: config.calibrate_on]
    slope, offset = calibrate(last, predict(network, data, sample, precision), data.labels[sample])
    log.info("calibrated", slope=round(slope, 4), offset=round(offset, 4), images=len(sample))


def calibrate(last: Sequence[nn.Linear], scores: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Fold into `last` the straight line that best maps `scores` to `labels`; returns its slope and offset.

    A line that reverses the scores or scales them up far comes from uninformative scores: they stay unchanged.
    """
    slope, offset = np.polyfit(scores, labels, 1) if np.ptp(scores) > 0 else (0.0, 0.0)
    if not 1 / STEEPEST < slope < STEEPEST:
        log.warning("not_calibrated", slope=float(slope), hint="train for longer, or look at the data")
        return 1.0, 0.0
    with torch.no_grad():
        for layer in last:
            layer.weight.mul_(slope)
            layer.bias.mul_(slope)
        last[0].bias.add_(offset)
    return float(slope), float(offset)
