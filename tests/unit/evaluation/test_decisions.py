import numpy as np
import pytest

from dpiqa.evaluation.decisions import escalated, same_side, sides
from dpiqa.profiles import Profile


def profile(*, share=0.25, margin=0.1):
    return Profile(
        name="p",
        version=1,
        student="a",
        teacher="b",
        cutoffs=[{"at": 0.5, "margin": margin}],
        max_escalated_share=share,
    )


def test_a_cut_off_itself_is_above():
    assert sides(np.array([0.3, 0.5, 0.7]), [0.5]).tolist() == [[False], [True], [True]]


def test_a_decision_is_right_only_on_the_side_of_every_cut_off():
    mos = np.array([0.2, 0.5, 0.9])
    assert same_side(np.array([0.3, 0.3, 0.3]), mos, [0.4, 0.6]).tolist() == [True, False, False]
    assert same_side(np.array([0.5, 0.5, 0.5]), mos, [0.4, 0.6]).tolist() == [False, True, False]
    assert same_side(np.array([0.5, 0.5, 0.5]), mos, [0.4]).tolist() == [False, True, True]


def test_the_nearest_of_a_chunk_go_first_and_the_budget_holds_all_along():
    scores = np.array([0.45, 0.51, 0.9, 0.1, 0.55, 0.5, 0.42, 0.58])
    assert np.flatnonzero(escalated(scores, profile(), chunk=4)).tolist() == [1, 5]
    assert np.flatnonzero(escalated(scores, profile(), chunk=8)).tolist() == [1, 5]
    assert np.flatnonzero(escalated(scores, profile(share=0.5), chunk=4)).tolist() == [0, 1, 4, 5]


@pytest.mark.parametrize("chunk", [1, 7, 32, 500])
def test_the_share_is_never_more_than_the_profiles(chunk):
    sent = escalated(np.random.default_rng(0).uniform(0.4, 0.6, 200), profile(share=0.2), chunk)
    so_far = np.cumsum(sent) / np.arange(1, 201)
    assert sent.mean() == 0.2 if chunk > 1 else sent.mean() <= 0.2
    assert (so_far[chunk - 1 :: chunk] <= np.maximum(0.2, 1 / np.arange(1, 201)[chunk - 1 :: chunk])).all()


def test_what_is_clear_is_not_sent():
    assert not escalated(np.array([0.1, 0.9, 0.39, 0.61]), profile(share=1), chunk=4).any()
