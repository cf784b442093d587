"""Compiled students: batches of a few sizes, filled up, and recorded where that works."""

import numpy as np
import pytest
import torch
from structlog.testing import capture_logs

from dpiqa.models.backends import compiled
from dpiqa.models.backends.compiled import ON_CPU, ON_GPU, CompiledScorer, parts
from dpiqa.models.backends.parity import farthest_scores, parity_pictures
from dpiqa.models.loading import load_scorer
from dpiqa.types import Backend

SIZES = (1, 4, 8)


@pytest.fixture
def eager(models_dir):
    return load_scorer("small-student", models_dir=models_dir, device="cpu", threads=1, backend=Backend.EAGER)


@pytest.fixture
def seen(eager):
    """Sizes of the batches that the network has seen."""
    sizes = set()
    eager.network.register_forward_pre_hook(lambda _, inputs: sizes.add(len(inputs[0])))
    return sizes


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (19, 64, 64, 3), dtype=np.uint8)


def prepared(eager, **options):
    """Return a scorer whose network is not compiled, which takes a minute and changes nothing here."""
    scorer = CompiledScorer(eager.card, eager, SIZES, **{"in_graphs": False} | options)
    scorer.prepare()
    return scorer


@pytest.mark.parametrize(
    ("n", "calls"), [(1, [(1, 1)]), (3, [(3, 4)]), (5, [(5, 8)]), (8, [(8, 8)]), (19, [(8, 8), (8, 8), (3, 4)])]
)
def test_the_least_call_that_holds_them_is_made(n, calls):
    assert list(parts(n, SIZES)) == calls


@pytest.mark.parametrize("sizes", [ON_CPU, ON_GPU])
def test_every_image_is_in_one_call_of_which_less_than_two_thirds_are_filled_up(sizes):
    for n in range(1, 70):
        calls = list(parts(n, sizes))
        assert sum(images for images, _ in calls) == n
        assert all(size in sizes and size < 3 * images for images, size in calls)


def test_the_network_sees_a_few_sizes_and_scores_do_not_depend_on_the_batch(eager, seen, pixels):
    expected = eager.score(pixels)
    scorer = prepared(eager)
    seen.clear()
    for n in range(1, 20):
        np.testing.assert_allclose(scorer.score(pixels[:n]), expected[:n], atol=1e-5)
    assert seen == set(SIZES)


def test_scores_of_a_recorded_call_are_kept_when_it_is_repeated(eager, monkeypatch, pixels):
    def recorded(calls, device):
        def in_the_same_memory(call, result):
            return lambda: result.copy_(call())

        assert (list(calls), device.type) == ([8, 4, 1], "cpu")
        for size, call in calls.items():
            yield size, in_the_same_memory(call, torch.zeros(size))

    monkeypatch.setattr(compiled, "recorded", recorded)
    with capture_logs() as lines:
        scorer = prepared(eager, in_graphs=True)
    assert [line["event"] for line in lines] == ["cuda_graphs_recorded"]
    np.testing.assert_allclose(scorer.score(pixels), eager.score(pixels), atol=1e-5)


def test_calls_that_cannot_be_recorded_are_made_without_graphs(eager, monkeypatch, pixels):
    def recorded(calls, _):
        yield 8, lambda: torch.full((8,), torch.nan)
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nand more")

    monkeypatch.setattr(compiled, "recorded", recorded)
    with capture_logs() as lines:
        scorer = prepared(eager, in_graphs=True)
    (line,) = lines
    assert (line["event"], line["log_level"], line["model"]) == ("cuda_graphs_not_used", "warning", "small-student")
    assert line["error"].endswith("stream is capturing")
    np.testing.assert_allclose(scorer.score(pixels), eager.score(pixels), atol=1e-5)


def test_the_check_sees_what_one_size_of_batches_gets_wrong():
    pictures = parity_pictures(16, 16)
    expected = np.arange(8.0)

    def score(pixels):
        numbers = [next(n for n in range(8) if np.array_equal(pictures[n], one)) for one in pixels]
        wrong = {3: 0.5, 15: np.nan}.get(len(pixels), 0.0)
        return expected[numbers] + wrong * (np.arange(len(pixels)) == 2)

    assert farthest_scores(score, pictures, expected, [8, 1, 7]).tolist() == expected.tolist()
    assert farthest_scores(score, pictures, expected, [8, 3, 7])[2] == 2.5
    assert np.isnan(farthest_scores(score, pictures, expected, [15, 8, 3])[2])
