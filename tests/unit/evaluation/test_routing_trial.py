"""Trials whose outcome can be said beforehand."""

import json

import numpy as np
import pytest

from dpiqa.errors import InvalidRequest
from dpiqa.evaluation.paired import PairedScores
from dpiqa.evaluation.routing_trial import STRATEGIES, card_sections, columns, escalated, markdown, rows, try_routing
from dpiqa.profiles import Profile

DRAWS = 200


def profile(**changes):
    fields = {"name": "p", "version": 3, "student": "a", "teacher": "b", "max_escalated_share": 0.2}
    return Profile(**(fields | {"cutoffs": [{"at": 0.5, "margin": 0.1}]} | changes))


def paired(student, teacher, mos):
    return PairedScores(
        names=("student", "teacher"),
        scorers=("s:1", "t:1"),
        scores=np.stack([student, teacher]),
        labels=np.asarray(mos),
        subsets=np.array(["odd" if index % 2 else "even" for index in range(len(mos))]),
        failures={},
    )


@pytest.fixture
def near_misses():
    """200 images: a fifth on the wrong side by a hair, the rest right by far; the teacher is always right."""
    mos = np.tile([0.2, 0.3, 0.7, 0.8, 0.9], 40)
    student = mos.copy()
    student[::5] = 0.51
    return paired(student, mos, mos)


def test_routing_pays_where_the_student_errs_near_the_cut_off(near_misses):
    trial = try_routing(near_misses, profile(), chunk=32, draws=DRAWS)
    assert trial.agreement["student"].value == pytest.approx(0.8)
    assert trial.agreement["teacher"].value == 1
    share, routed = trial.share.value, trial.agreement["routed"].value
    assert 0.15 < share <= 0.2  # some chunks hold fewer wrong ones than the budget
    assert routed == pytest.approx(0.8 + share)  # whatever is sent was wrong
    assert trial.agreement["random"].value == pytest.approx(0.8 * (1 - share) + share)
    assert trial.gains["student"].value == pytest.approx(share)
    assert trial.gains["teacher"].value == pytest.approx(routed - 1)
    assert trial.improves
    assert "p@3 improves decisions" in trial.verdict
    low, high = trial.random_range
    assert low < trial.agreement["random"].value < high < routed


def test_a_teacher_that_says_the_same_changes_nothing_and_the_verdict_says_so(near_misses):
    student = near_misses.scores[0]
    trial = try_routing(paired(student, student, near_misses.labels), profile(), chunk=32, draws=DRAWS)
    assert [estimate.value for estimate in trial.gains.values()] == pytest.approx([0, 0, 0], abs=1e-12)
    assert not trial.improves
    assert "does not clearly improve" in trial.verdict
    assert trial.disagreement.whole.mean_absolute == 0
    assert trial.disagreement.srcc.value == pytest.approx(1)


def test_better_than_the_student_but_no_better_than_chance_is_no_gain():
    """The teacher is right everywhere, the student wrong far from the cut-off as often as near to it."""
    mos = np.tile([0.2, 0.8], 100)
    student = np.where(np.arange(200) % 4 < 2, mos, 1 - mos)
    student[::3] = 0.5 + np.sign(student[::3] - 0.5) * 0.01
    trial = try_routing(paired(student, mos, mos), profile(), chunk=32, draws=DRAWS)
    assert trial.gains["student"].interval[0] > 0
    assert abs(trial.gains["random"].value) < 0.05
    assert not trial.improves


def test_intervals_are_paired(near_misses):
    """Where student and routed hang together, their difference is known better than either."""
    trial = try_routing(near_misses, profile(), chunk=32, draws=DRAWS)

    def width(estimate):
        return estimate.interval[1] - estimate.interval[0]

    assert width(trial.gains["student"]) < width(trial.agreement["student"])


def test_the_seed_decides(near_misses):
    def document(seed):
        return try_routing(near_misses, profile(), chunk=16, draws=40, seed=seed).as_dict()

    assert document(0) == document(0)
    assert document(0) != document(1)


def test_two_cut_offs_are_both_to_be_right(near_misses):
    both = profile(cutoffs=[{"at": 0.5, "margin": 0.1}, {"at": 0.75, "margin": 0.01}])
    trial = try_routing(near_misses, both, chunk=32, draws=DRAWS)
    assert trial.by_cutoff["student"] == pytest.approx((0.8, 1.0))
    assert trial.by_cutoff["teacher"] == (1.0, 1.0)
    assert columns(trial)[2:4] == ("at 0.5", "at 0.75")
    assert all(len(row) == len(columns(trial)) for row in rows(trial))


def test_report_and_section_say_everything(near_misses):
    trial = try_routing(near_misses, profile(), chunk=32, draws=DRAWS)
    assert [len(row) for row in rows(trial)] == [len(columns(trial))] * len(STRATEGIES)
    text = markdown(trial, "set val")
    assert trial.verdict in text
    assert "| subset | even | 100 |" in text
    ((name, section),) = card_sections(trial, "set val").items()
    assert name == "routing on set val, profile p@3"
    assert json.loads(json.dumps(section, allow_nan=False))["improves"] is True
    where = section["teacher_against_student"]
    assert where["largest"] == {"subset": "even", "range": "0.51 to 0.51"}
    assert where["subsets"]["even"]["opposite_sides"] == pytest.approx(0.2)
    assert sum(part["n"] for part in where["ranges"]) == 200


@pytest.mark.parametrize("changes", [{"teacher": None}, {"cutoffs": []}, {"max_escalated_share": 0.0}])
def test_a_profile_that_never_escalates_is_refused(near_misses, changes):
    with pytest.raises(InvalidRequest, match=r"p@3 never asks a teacher"):
        try_routing(near_misses, profile(**changes), chunk=32)


def test_the_nearest_of_a_chunk_go_first_and_the_budget_holds_all_along():
    scores = np.array([0.45, 0.51, 0.9, 0.1, 0.55, 0.5, 0.42, 0.58])
    assert np.flatnonzero(escalated(scores, profile(max_escalated_share=0.25), chunk=4)).tolist() == [1, 5]
    assert np.flatnonzero(escalated(scores, profile(max_escalated_share=0.25), chunk=8)).tolist() == [1, 5]
    assert np.flatnonzero(escalated(scores, profile(max_escalated_share=0.5), chunk=4)).tolist() == [0, 1, 4, 5]


@pytest.mark.parametrize("chunk", [1, 7, 32, 500])
def test_the_share_is_never_more_than_the_profiles(chunk):
    sent = escalated(np.random.default_rng(0).uniform(0.4, 0.6, 200), profile(max_escalated_share=0.2), chunk)
    so_far = np.cumsum(sent) / np.arange(1, 201)
    assert sent.mean() == 0.2 if chunk > 1 else sent.mean() <= 0.2
    assert (so_far[chunk - 1 :: chunk] <= np.maximum(0.2, 1 / np.arange(1, 201)[chunk - 1 :: chunk])).all()


def test_what_is_clear_is_not_sent():
    assert not escalated(np.array([0.1, 0.9, 0.39, 0.61]), profile(max_escalated_share=1), chunk=4).any()
