"""The regressor's first and last layer: how it begins and how it is calibrated."""

from typing import cast

import numpy as np
import structlog
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from dpiqa.models.quality_decoder import QualityFeatureDecoder
from dpiqa.models.regressor import Pooling
from dpiqa.training.config import ScorerModel
from dpiqa.training.labelled import Labelled, predict
from dpiqa.training.plan import Arithmetic

log = structlog.get_logger()
STEEPEST = 10.0  #: line that calibration believes in


def begin_as_pooling(first: nn.Linear, last: nn.Linear, cells: int, centre: float) -> None:
    """Give every cell of a channel the same weight in `first`, and start `last` at the labels' mean.

    The regressor then begins as an average over the picture and learns from there which places matter; a few thousand
    photographs are too few to learn averaging itself from a random start.
    """
    channels = first.in_features // cells
    with torch.no_grad():
        weight = torch.randn(first.out_features, channels) * (2 / channels) ** 0.5 / cells
        first.weight.copy_(weight.repeat_interleave(cells, dim=1))
        first.bias.zero_()
        last.bias.fill_(centre)


def begin_at(last: nn.Linear, centre: float) -> None:
    """Start a regressor that sees moments at the labels' mean."""
    with torch.no_grad():
        last.bias.fill_(centre)


def normalise(decoder: QualityFeatureDecoder) -> None:
    """Put a batch normalisation behind the decoder's convolutions and its pooling layer, for training only.

    The quality map's mean over a picture differs little between pictures; without normalisation a common drift of the
    features swamps that difference, and a teacher trained from scratch blows up or dies.
    """
    for name in decoder.convolutions():
        layer = cast("nn.Conv2d", decoder.get_submodule(name))
        setattr(decoder, name, nn.Sequential(layer, nn.BatchNorm2d(layer.out_channels)))
    if decoder.config.pooling is Pooling.CELLS:  # a reader of moments has a normalisation of its own
        setattr(decoder, "fc1", nn.Sequential(decoder.fc1, nn.BatchNorm1d(decoder.fc1.out_features)))  # noqa: B010


def fold(decoder: QualityFeatureDecoder) -> None:
    """Fold what `normalise` added into the layers: the same function in evaluation, and the published architecture."""
    decoder.eval()
    for name in decoder.convolutions():
        convolution, norm = cast("tuple[nn.Conv2d, nn.BatchNorm2d]", tuple(decoder.get_submodule(name).children()))
        setattr(decoder, name, fuse_conv_bn_eval(convolution, norm))
    if decoder.config.pooling is Pooling.CELLS:
        linear, pooled_norm = cast("tuple[nn.Linear, nn.BatchNorm1d]", tuple(decoder.get_submodule("fc1").children()))
        decoder.fc1 = fuse_linear_bn_eval(linear, pooled_norm)


def calibrate_on(chosen: ScorerModel, model: nn.Module, last: nn.Linear, data: Labelled, precision: Arithmetic) -> None:
    """Calibrate a network whose last layer is `last` on a fixed sample of the rows of a side, as whole pictures.

    A network that fits its training pictures closely spreads its scores too far on others: for such a one the line is
    better found on the pictures that the checkpoint is chosen on, two numbers more that are chosen there.
    """
    if chosen.calibrate_on == 0:
        return
    rows = data.train if chosen.calibrate_side == "train" else data.val
    sample = np.random.default_rng(0).permutation(rows)[: chosen.calibrate_on]
    slope, offset = calibrate(last, predict(model, data, sample, precision), data.labels[sample])
    log.info("calibrated", slope=round(slope, 4), offset=round(offset, 4), images=len(sample))


def calibrate(last: nn.Linear, scores: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Fold into `last` the straight line that best maps `scores` to `labels`; returns its slope and offset.

    A line that turns the scores round or blows them up comes from scores that say nothing yet: they stay as they are.
    """
    slope, offset = np.polyfit(scores, labels, 1) if np.ptp(scores) > 0 else (0.0, 0.0)
    if not 1 / STEEPEST < slope < STEEPEST:
        log.warning("not_calibrated", slope=float(slope), hint="train for longer, or look at the data")
        return 1.0, 0.0
    with torch.no_grad():
        last.weight.mul_(slope)
        last.bias.mul_(slope).add_(offset)
    return float(slope), float(offset)
