"""Rates, groups, averages, losses, crops, heads."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from support.training import toy_plan

from dpiqa.models.quality_decoder import QfdConfig, build_decoder
from dpiqa.training.data.crops import Crops, random_crops
from dpiqa.training.loop.optimise import MovingAverage, learning_rate, parameter_groups
from dpiqa.training.runs.regressor import begin_as_pooling, calibrate, fold, normalise
from dpiqa.training.runs.scorer import ranking_loss
from dpiqa.training.runs.validation import agreement


def test_the_rate_warms_up_and_falls_as_a_cosine():
    plan = toy_plan(rate=1.0, warmup=0.05, floor=0.01)
    rates = [learning_rate(step, 100, plan) for step in range(100)]
    assert max(rates) == rates[4] == 1
    assert rates[0] == pytest.approx(0.2)
    assert rates == sorted(rates[:5]) + sorted(rates[5:], reverse=True)
    assert 0.01 <= rates[-1] < 0.02


def test_the_rate_steps_down_after_its_milestones():
    plan = toy_plan(epochs=30, rate=1.0, schedule="multistep", milestones=[10, 25], factor=0.2, warmup=0.0)
    rates = [learning_rate(step, 30 * 7, plan) for step in range(30 * 7)]
    assert rates[: 10 * 7] == [1.0] * 70
    assert rates[10 * 7 : 25 * 7] == pytest.approx([0.2] * 105)
    assert rates[25 * 7 :] == pytest.approx([0.04] * 35)


def test_matrices_decay_vectors_do_not_and_some_learn_slowly():
    network = torch.nn.ModuleDict({"fc1": torch.nn.Linear(2, 2), "fc2": torch.nn.Linear(2, 2)})
    network["fc2"].bias.requires_grad = False
    groups = parameter_groups(network, 0.1, {"fc1.weight": 0.01})
    found = {(group["factor"], group["weight_decay"], len(group["params"])) for group in groups}
    assert found == {(0.01, 0.1, 1), (1.0, 0.0, 1), (1.0, 0.1, 1)}


def test_the_average_forgets_its_start_and_gives_the_weights_back():
    network = torch.nn.Linear(1, 1, bias=False)
    average = MovingAverage(network, decay=0.9)
    torch.nn.init.zeros_(network.weight)
    first = float(average.tensors["weight"])
    average.update()
    assert float(average.tensors["weight"]) == pytest.approx(first * 0.1, abs=1e-7)  # memory of one update: 1/10
    for _ in range(200):
        average.update()
    with average.in_place():
        assert network.weight.item() == pytest.approx(0, abs=1e-6)
    network.weight.data.fill_(5)
    with average.in_place():
        assert network.weight.item() < 1
    assert network.weight.item() == 5


def test_pairs_in_the_right_order_beyond_the_margin_cost_nothing():
    labels = torch.tensor([0.0, 1.0, 2.0])
    assert ranking_loss(labels, labels) == 0
    margin = 0.25 * float(labels.std())
    assert ranking_loss(torch.zeros(3), labels) == pytest.approx(margin)
    assert ranking_loss(-labels, labels) == pytest.approx((1 + 2 + 1) / 3 + margin)


def test_equal_labels_have_no_order():
    scores = torch.tensor([0.3, 0.9, 0.1], requires_grad=True)
    assert ranking_loss(scores, torch.ones(3)) == 0
    ranking_loss(scores, torch.ones(3)).backward()
    assert torch.equal(scores.grad, torch.zeros(3))
    one = torch.tensor([0.5], requires_grad=True)
    assert ranking_loss(one, torch.ones(1)) == 0


def test_maps_are_cut_where_their_pixels_are():
    pixels = np.arange(64 * 64, dtype=np.float32).reshape(1, 64, 64, 1)
    cells = pixels[:, ::16, ::16]  # one value per cell: that of its corner
    crops = Crops(index=np.array([0]), top=np.array([16]), left=np.array([32]), flip=np.array([False]), size=32)
    np.testing.assert_array_equal(crops.cut_maps(cells, 16), crops.cut(pixels)[:, ::16, ::16])
    mirrored = Crops(index=crops.index, top=crops.top, left=crops.left, flip=np.array([True]), size=32)
    np.testing.assert_array_equal(mirrored.cut(pixels), crops.cut(pixels)[:, :, ::-1])


def test_crops_lie_inside_and_on_the_grid():
    crops = random_crops(np.arange(100), 512, 256, 64, np.random.default_rng(0))
    assert set(crops.top) <= {0, 64, 128, 192, 256}
    assert crops.top.max() == 256
    assert 0 < crops.flip.sum() < 100
    whole = random_crops(np.arange(100), 512, 512, 64, np.random.default_rng(0), mirror=False)
    assert not np.stack([whole.top, whole.left, whole.flip]).any()


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
        calibrate(last, last(inputs).squeeze(1).numpy(), labels)
        slope, offset = np.polyfit(last(inputs).squeeze(1).numpy(), labels, 1)
    assert (slope, offset) == (pytest.approx(1, abs=1e-3), pytest.approx(0, abs=1e-3))


@pytest.mark.parametrize("scores", [[0.5, 0.5, 0.5], [0.9, 0.5, 0.1], [0.5, 0.5001, 0.5002]])
def test_scores_that_say_nothing_are_left_alone(scores):
    last = torch.nn.Linear(4, 1)
    before = last.weight.clone()
    assert calibrate(last, np.array(scores), np.array([0.1, 0.5, 0.9])) == (1, 0)
    assert torch.equal(last.weight, before)


def test_scores_that_are_no_numbers_have_no_merit():
    labels = np.array([0.1, 0.2, 0.3])
    assert np.isnan(agreement(np.array([0.1, np.nan, 0.3]), labels).merit)
    assert agreement(labels, labels).merit == pytest.approx(1)


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


def test_glibc_is_asked_to_keep_what_is_freed():
    """In a process of its own: it cannot be taken back."""
    code = (
        "import platform; from dpiqa.models.torch_scorer import keep_buffers; "
        "print(platform.libc_ver()[0], keep_buffers())"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert said[-1] == str(said[0] == "glibc")
