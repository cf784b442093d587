import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpiqa.profiles import Cutoff, Profile
from dpiqa.routing import allowed, decide
from dpiqa.types import Route


def profile(*cutoffs, share=1.0, teacher="teacher"):
    return Profile(
        name="p",
        version=1,
        student="student",
        teacher=teacher,
        cutoffs=tuple(Cutoff(at=at, margin=margin) for at, margin in cutoffs),
        max_escalated_share=share,
    )


def route(scores, policy, scored_before=0, escalated_before=0):
    return decide(scores, policy, scored_before=scored_before, escalated_before=escalated_before)


def test_within_the_margin_is_borderline_the_edge_included():
    policy = profile((0.35, 0.05), (0.6, 0.1))
    scores = [0.29, 0.3, 0.35, 0.4, 0.41, 0.5, 0.7, 0.71, 0.49]
    assert [r is Route.BORDERLINE for r in route(scores, policy)] == [
        False, True, True, True, False, True, True, False, False,
    ]  # fmt: skip


def test_the_nearest_in_margins_spend_the_budget_first_and_ties_go_by_position():
    policy = profile((0.25, 0.125), (0.75, 0.25), share=0.5)
    scores = [0.1875, 0.8, 0.3125, 0.5 - 1 / 16]  # half a margin, a fifth, half a margin
    assert route(scores, policy) == [Route.BORDERLINE, Route.BORDERLINE, Route.BUDGET_SPENT, Route.CLEAR]


def test_without_a_teacher_nothing_is_escalated():
    assert route([0.5, 0.9], profile((0.5, 0.1), teacher=None)) == [Route.NO_TEACHER] * 2


def test_a_profile_without_cutoffs_is_always_clear():
    assert route([0.5], profile()) == [Route.CLEAR]


def test_a_margin_of_nothing_means_the_score_itself():
    assert route([0.5, 0.51], profile((0.5, 0.0))) == [Route.BORDERLINE, Route.CLEAR]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_only_numbers_are_routed(bad):
    with pytest.raises(ValueError, match="finite"):
        route([0.5, bad], profile((0.5, 0.1)))


@pytest.mark.parametrize(
    ("share", "scored", "budget"),
    [(0.2, 0, 1), (0.2, 4, 1), (0.2, 10, 2), (0.29, 100, 29), (0.1, 30, 3), (0.0, 1000, 0), (1.0, 7, 7)],
)
def test_the_budget_is_the_share_rounded_down_but_at_least_one(share, scored, budget):
    assert allowed(share, scored) == budget


@given(
    st.lists(st.lists(st.floats(0, 1), max_size=20), max_size=20),
    st.floats(0, 1),
)
def test_the_cap_holds_at_every_moment(batches, share):
    policy = profile((0.3, 0.1), (0.6, 0.2), share=share)
    scored = escalated = 0
    for batch in batches:
        routes = route(batch, policy, scored, escalated)
        scored, escalated = scored + len(batch), escalated + routes.count(Route.BORDERLINE)
        assert len(routes) == len(batch)
        assert escalated <= allowed(share, scored)
        if Route.BUDGET_SPENT in routes:
            assert escalated == allowed(share, scored) or escalated > allowed(share, scored - len(batch))
