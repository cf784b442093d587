"""Precision and recall of cut-offs on labels, against figures by hand and those of scipy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dpiqa.thresholds import MAX_POINTS, LabelledScore, curve, cutoff_for_precision, figures_at, wilson
from dpiqa.types import Direction

#: Worst first: people reject three of the worst four, and one that the scores find good.
LABELS = [
    LabelledScore(score, rejected)
    for score, rejected in [
        (0.1, True),
        (0.2, True),
        (0.3, False),
        (0.4, True),
        (0.6, False),
        (0.8, True),
        (0.9, False),
    ]
]


@pytest.mark.parametrize(("hits", "n"), [(0, 1), (0, 30), (1, 1), (7, 30), (29, 30), (30, 30), (500, 1000)])
def test_intervals_are_wilsons(hits, n):
    expected = stats.binomtest(hits, n).proportion_ci(0.95, method="wilson")
    assert wilson(hits, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_precision_and_recall_by_hand():
    at = figures_at(LABELS, 0.5, Direction.HIGHER)
    assert (at.precision.value, at.precision.n) == (0.75, 4)  # 0.1, 0.2, 0.4 of four below
    assert (at.recall.value, at.recall.n) == (0.75, 4)  # the three of the four that people reject
    assert figures_at(LABELS, 0.1, Direction.HIGHER).precision is None  # a score at the cut-off is accepted
    assert figures_at([LabelledScore(0.1, rejected=False)], 0.5, Direction.HIGHER).recall is None


def test_where_lower_is_better_the_cutoff_rejects_what_is_above():
    turned = [LabelledScore(1 - label.score, label.rejected) for label in LABELS]
    at = figures_at(turned, 0.5, Direction.LOWER)
    assert (at.precision.value, at.recall.value) == (0.75, 0.75)
    assert figures_at(turned, 0.9, Direction.LOWER).precision is None
    for one, other in zip(curve(LABELS, Direction.HIGHER), curve(turned, Direction.LOWER), strict=True):
        assert other.cutoff == pytest.approx(1 - one.cutoff)
        assert (other.precision, other.recall) == (one.precision, one.recall)


@given(st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=60), st.sampled_from(Direction))
def test_every_point_of_a_curve_has_the_figures_of_its_cutoff(pairs, direction):
    labels = [LabelledScore(score / 10, rejected) for score, rejected in pairs]
    points = curve(labels, direction)
    assert len(points) == len({score for score, _ in pairs})
    for point in points:
        assert point == figures_at(labels, point.cutoff, direction)
    assert points[-1].precision.n == len(labels)


def test_a_long_curve_keeps_its_ends():
    rng = np.random.default_rng(0)
    labels = [LabelledScore(score, bool(score < 0.3)) for score in rng.random(1000)]
    points = curve(labels, Direction.HIGHER)
    assert (len(points), points[0].precision.n, points[-1].precision.n) == (MAX_POINTS, 1, 1000)


def test_the_cutoff_for_a_precision_rejects_as_much_as_it_can():
    points = curve(LABELS, Direction.HIGHER)
    assert cutoff_for_precision(points, 1.0).cutoff == pytest.approx(0.25)
    assert cutoff_for_precision(points, 0.75).cutoff == pytest.approx(0.5)
    assert cutoff_for_precision(points, 0.5).precision.n == 7  # all of them
    assert cutoff_for_precision(points, 0.75, sure=True) is None  # seven labels prove little
    many = [LabelledScore(n / 1000, n < 400) for n in range(1000)]
    sure = cutoff_for_precision(curve(many, Direction.HIGHER), 0.9, sure=True)
    assert sure.precision.low >= 0.9
    assert sure.cutoff < cutoff_for_precision(curve(many, Direction.HIGHER), 0.9).cutoff
