import numpy as np
import pytest

from dpiqa.evaluation.correlation import agreement, srcc, srcc_interval


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


def test_ties_share_their_rank():
    assert srcc(np.array([1, 1, 2, 3]), np.array([1, 1, 2, 3])) == pytest.approx(1)


def test_the_interval_holds_the_figure_and_narrows_with_more_images(noisy):
    scores, labels = noisy
    low, high = srcc_interval(scores, labels)
    few_low, few_high = srcc_interval(scores[:40], labels[:40])
    assert low < srcc(scores, labels) < high
    assert high - low < few_high - few_low
    assert (low, high) == srcc_interval(scores, labels)


@pytest.mark.parametrize("scores", [[1.0, 2.0, 3.0], [1.0, np.nan], [1.0]])
def test_what_cannot_be_compared_is_refused(scores):
    with pytest.raises(ValueError, match=r"expected two vectors|must be finite"):
        agreement(np.array(scores), np.array([1.0, 2.0]))
