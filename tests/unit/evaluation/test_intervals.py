import numpy as np
import pytest

from dpiqa.evaluation.agreement import METRICS, agreement, srcc
from dpiqa.evaluation.intervals import intervals, percentile_interval, srcc_interval


def noisy(n):
    rng = np.random.default_rng(0)
    labels = rng.random(n)
    return labels + rng.normal(0, 0.2, n), labels


def test_intervals_hold_the_figure_and_narrow_with_more_images():
    many, few = (intervals(*noisy(n), draws=60) for n in (300, 40))
    figures = agreement(*noisy(300))
    for metric in METRICS:
        low, high = many[metric]
        assert low < getattr(figures, metric) < high
        assert high - low < few[metric][1] - few[metric][0]


def test_the_seed_decides():
    scores, labels = noisy(60)
    assert intervals(scores, labels, draws=20) == intervals(scores, labels, draws=20)
    assert intervals(scores, labels, draws=20) != intervals(scores, labels, draws=20, seed=1)


def test_the_srccs_interval_alone_is_that_of_all():
    scores, labels = noisy(60)
    assert srcc_interval(scores, labels, draws=20) == pytest.approx(intervals(scores, labels, draws=20)["srcc"])
    low, high = srcc_interval(scores, labels, draws=20)
    assert low < srcc(scores, labels) < high


def test_an_interval_is_quantiles_of_what_is_defined():
    assert percentile_interval(np.arange(101.0), 0.9) == pytest.approx((5, 95))
    assert percentile_interval(np.array([1.0, 2.0, 3.0, np.nan]), 0.0) == (2, 2)
    assert percentile_interval(np.array([1.0, np.nan]), 0.95) is None


def test_constant_scores_have_no_interval():
    bounds = intervals(np.ones(20), np.arange(20) / 20, draws=20)
    assert bounds["srcc"] is None
    assert bounds["rmse"] is not None
