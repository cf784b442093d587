import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dpiqa.evaluation.agreement import Curve, agreement, fit_mapping, logistic, srcc


@pytest.fixture
def noisy():
    rng = np.random.default_rng(0)
    labels = rng.random(200)
    return labels + rng.normal(0, 0.2, 200), labels


def test_figures_are_what_their_definitions_say(noisy):
    scores, labels = noisy
    figures = agreement(scores, labels)
    ranks = [values.argsort().argsort() for values in (scores, labels)]
    assert figures.srcc == pytest.approx(np.corrcoef(*ranks)[0, 1], abs=1e-9)
    assert figures.plcc == pytest.approx(np.corrcoef(scores, labels)[0, 1], abs=1e-9)
    pairs = np.sign(np.subtract.outer(scores, scores)) * np.sign(np.subtract.outer(labels, labels))
    assert figures.krcc == pytest.approx(pairs.sum() / (200 * 199), abs=1e-9)
    assert figures.rmse == pytest.approx(np.sqrt(((scores - labels) ** 2).mean()))
    assert figures.n == 200


#: Few distinct values, so that ties are common; far apart, so that scipy itself is exact.
SIDES = st.lists(st.tuples(st.integers(-5, 5), st.integers(0, 9)), min_size=3, max_size=40)


@given(SIDES)
@settings(deadline=None, max_examples=40)
def test_figures_are_scipys(pairs):
    scores, labels = (np.array(side, dtype=float) / 10 for side in zip(*pairs, strict=True))
    figures = agreement(scores, labels)
    if np.ptp(scores) == 0 or np.ptp(labels) == 0:
        assert all(math.isnan(value) for value in (figures.srcc, figures.plcc, figures.krcc, figures.plcc_mapped))
        return
    assert figures.srcc == pytest.approx(stats.spearmanr(scores, labels).statistic, abs=1e-9)
    assert figures.plcc == pytest.approx(stats.pearsonr(scores, labels).statistic, abs=1e-9)
    assert figures.krcc == pytest.approx(stats.kendalltau(scores, labels).statistic, abs=1e-9)


def test_figures_after_the_mapping_are_scipys(noisy):
    scores, labels = noisy
    figures = agreement(scores, labels)
    mapped = figures.mapping(scores)
    assert figures.plcc_mapped == pytest.approx(stats.pearsonr(mapped, labels).statistic, abs=1e-9)
    assert figures.rmse_mapped == pytest.approx(np.sqrt(np.mean((mapped - labels) ** 2)), abs=1e-9)
    assert figures.rmse_mapped < figures.rmse


def test_ties_share_their_rank():
    assert srcc(np.array([1, 1, 2, 3]), np.array([1, 1, 2, 3])) == pytest.approx(1)


@pytest.mark.parametrize("scores", [np.ones(6), np.full(6, 1e9) + 1e-9 * np.arange(6)])
def test_what_is_not_defined_is_said_without_a_warning(scores):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures = agreement(scores, np.arange(6) / 10).as_dict()
    assert [figures[name] for name in ("srcc", "plcc", "krcc", "plcc_mapped", "mapping")] == [None] * 5
    assert figures["rmse"] > 0


@pytest.mark.parametrize("scores", [[1.0, 2.0, 3.0], [1.0, np.nan], [1.0]])
def test_what_cannot_be_compared_is_refused(scores):
    with pytest.raises(ValueError, match=r"expected two vectors|must be finite"):
        agreement(np.array(scores), np.array([1.0, 2.0]))


def test_the_curve_is_found_again():
    scores = np.linspace(-1, 2, 60)
    truth = (0.9, 0.1, 0.4, 0.2)
    mapping = fit_mapping(scores, logistic(scores, *truth))
    assert mapping.curve is Curve.LOGISTIC
    assert mapping.parameters == pytest.approx(truth, abs=1e-6)


def test_the_mapping_takes_a_models_scale_away(noisy):
    _, labels = noisy
    scores = 3 * np.log(labels / (1 - labels)) - 7  # the right order on another, curved scale
    figures = agreement(scores, labels)
    assert figures.srcc == pytest.approx(1)
    assert figures.plcc < 0.99
    assert figures.plcc_mapped == pytest.approx(1, abs=1e-6)
    assert figures.rmse > 1
    assert figures.rmse_mapped < 1e-3


def test_lower_is_better_is_mapped_downwards(noisy):
    scores, labels = noisy
    turned = agreement(1 - scores, labels)
    assert turned.srcc == pytest.approx(-agreement(scores, labels).srcc)
    assert turned.plcc_mapped == pytest.approx(agreement(scores, labels).plcc_mapped, abs=1e-4)


def test_too_few_points_for_a_curve_get_a_line_that_says_so():
    mapping = fit_mapping(np.array([0.1, 0.2, 0.4]), np.array([0.2, 0.4, 0.8]))
    assert mapping.curve is Curve.LINEAR
    assert mapping.parameters == pytest.approx((2, 0), abs=1e-9)
    assert "too few" in mapping.remark


def test_a_fit_that_does_not_converge_says_so(monkeypatch, noisy):
    monkeypatch.setattr("dpiqa.evaluation.agreement._EVALUATIONS", 3)
    mapping = fit_mapping(*noisy)
    assert (mapping.curve, "did not converge" in mapping.remark) == (Curve.LINEAR, True)
    assert "straight line" in agreement(*noisy).as_dict()["mapping"]["remark"]
