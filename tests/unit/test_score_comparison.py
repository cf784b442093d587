"""Comparisons of two scorings, against scipy and figures by hand."""

import numpy as np
import pytest
from scipy import stats

from dpiqa.score_comparison import cutoff_at_share, decisions, moved_most, rank_correlation, ranks, rejected
from dpiqa.types import Direction


def test_ranks_are_scipys_and_share_ties():
    scores = np.array([0.3, 0.1, 0.3, 0.9, 0.1, 0.1])
    expected = (stats.rankdata(scores) - 1) / 5
    assert ranks(scores, Direction.HIGHER) == pytest.approx(expected)
    assert ranks(scores, Direction.LOWER) == pytest.approx(1 - expected)
    assert ranks(np.array([0.7]), Direction.HIGHER).tolist() == [0.5]


def test_the_correlation_is_spearmans():
    rng = np.random.default_rng(3)
    first = rng.random(200).round(2)
    second = first + rng.normal(0, 0.2, 200)
    found = rank_correlation(ranks(first, Direction.HIGHER), ranks(second, Direction.HIGHER))
    assert found.value == pytest.approx(stats.spearmanr(first, second).statistic)
    assert (found.low < found.value < found.high, found.n) == (True, 200)
    turned = rank_correlation(ranks(first, Direction.HIGHER), ranks(-second, Direction.LOWER))
    assert turned.value == pytest.approx(found.value)
    assert rank_correlation(ranks(first, Direction.HIGHER), np.full(200, 0.5)) is None


def test_the_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(4)
    true = 6 / np.pi * np.arcsin(0.7 / 2)  # Spearman's of normal values whose Pearson correlation is 0.7
    covered = 0
    for _ in range(400):
        pair = rng.multivariate_normal([0, 0], [[1, 0.7], [0.7, 1]], 80)
        found = rank_correlation(*(ranks(side, Direction.HIGHER) for side in pair.T))
        covered += found.low <= true <= found.high
    assert 0.92 <= covered / 400 <= 0.98


def test_images_that_moved_most():
    first, second = np.array([0.0, 0.25, 0.5, 0.75, 1.0]), np.array([0.0, 1.0, 0.25, 0.75, 0.5])
    rose, fell = moved_most(first, second, 3)
    assert (rose.tolist(), fell.tolist()) == ([1], [4, 2])


def test_decisions_at_the_same_share():
    first, second = np.array([0.1, 0.2, 0.3, 0.4]), np.array([9.0, 2.0, 8.0, 1.0])
    cutoff = cutoff_at_share(second, 0.5, Direction.LOWER)
    assert rejected(second, cutoff, Direction.LOWER).tolist() == [True, False, True, False]
    found = decisions(rejected(first, 0.3, Direction.HIGHER), rejected(second, cutoff, Direction.LOWER))
    masks = (found.both, found.first_alone, found.second_alone, found.neither)
    assert [mask.tolist().index(True) for mask in masks] == [0, 1, 2, 3]
    for share in (0.0, 0.25, 1.0):
        for direction in Direction:
            at = cutoff_at_share(first, share, direction)
            assert rejected(first, at, direction).sum() == 4 * share
    assert cutoff_at_share(np.array([]), 0.5, Direction.HIGHER) is None
