"""Rates, groups, averages, losses, crops, heads."""

import numpy as np
import pytest
import torch

from dpiqa.models.quality_decoder import QfdConfig, build_decoder
from dpiqa.models.regressor import MomentReader
from dpiqa.training.runs.regressor import begin_as_pooling, calibrate, fold, normalise


def test_a_regressor_begins_as_an_average_over_the_picture():
    torch.manual_seed(0)
    first, last = torch.nn.Linear(3 * 16, 5), torch.nn.Linear(5, 1)
    begin_as_pooling(first, last, 16, 0.4)
    features = torch.rand(2, 3, 4, 4)
    shuffled = features.flatten(2)[..., torch.randperm(16)].view_as(features)
    torch.testing.assert_close(first(features.flatten(1)), first(shuffled.flatten(1)))
    assert last.bias.item() == pytest.approx(0.4)


def test_calibration_makes_slope_one_and_offset_nought():
    torch.manual_seed(0)
    last = torch.nn.Linear(4, 1)
    inputs = torch.rand(50, 4)
    with torch.no_grad():
        labels = (3 * last(inputs) - 1).squeeze(1).numpy()
        calibrate([last], last(inputs).squeeze(1).numpy(), labels)
        slope, offset = np.polyfit(last(inputs).squeeze(1).numpy(), labels, 1)
    assert (slope, offset) == (pytest.approx(1, abs=1e-3), pytest.approx(0, abs=1e-3))


@pytest.mark.parametrize("scores", [[0.5, 0.5, 0.5], [0.9, 0.5, 0.1], [0.5, 0.5001, 0.5002]])
def test_scores_that_say_nothing_are_left_alone(scores):
    last = torch.nn.Linear(4, 1)
    before = last.weight.clone()
    assert calibrate([last], np.array(scores), np.array([0.1, 0.5, 0.9])) == (1, 0)
    assert torch.equal(last.weight, before)


def test_the_decoders_normalisation_folds_away():
    torch.manual_seed(0)
    config = QfdConfig(width=8, squeeze=2, score_widths=(8, 8), map_channels=4, map_size=8, hidden=8)
    decoder = build_decoder((8, 8, 16, 16), config)
    names = set(decoder.state_dict())
    maps = [torch.rand(4, channels, 16, 16) for channels in (8, 8, 16, 16)]
    normalise(decoder)
    decoder.train()
    for _ in range(20):
        decoder(maps, 8)
    with torch.no_grad():
        before, quality_before = decoder.eval()(maps, 8)
        fold(decoder)
        after, quality_after = decoder(maps, 8)
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(quality_after, quality_before, atol=1e-5, rtol=1e-4)
    assert set(decoder.state_dict()) == names


def test_gradients_of_moments_are_added_in_the_order_of_the_bundled_weights():
    """Another order rounds differently: the commands of the cards would not make the same bytes any more."""
    torch.manual_seed(0)
    reader = MomentReader(6, 0.0).train()
    quality, reference = (torch.rand(8, 6, 8, 8).requires_grad_() for _ in range(2))
    reference.data.copy_(quality.data)
    deviation = (reference.var(dim=(2, 3), correction=0) + 1e-4).sqrt()
    means = [reference.mean(dim=(2, 3)), deviation, reference[..., 2:6, 2:6].mean(dim=(2, 3))]
    weights = torch.rand(8, 18)
    (reader.norm(torch.cat(means, dim=1)) * weights).square().sum().backward()
    (reader(quality) * weights).square().sum().backward()
    assert torch.equal(quality.grad, reference.grad)
