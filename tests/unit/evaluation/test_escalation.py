"""Criteria of escalation whose outcome can be said beforehand."""

import json

import numpy as np
import pytest

from dpiqa.evaluation.escalation import (
    BEST,
    SHARES,
    EscalationScores,
    cascade,
    chosen,
    columns,
    criteria,
    distance,
    markdown,
    rows,
    try_escalation,
)

CUTOFFS = [0.5]


@pytest.fixture
def told_by_disagreement():
    """200 images: 40 wrong by far, where the second student differs; the teacher is always right."""
    labels = np.tile([0.2, 0.3, 0.7, 0.8, 0.9], 40)
    student = labels.copy()
    student[::5] = 0.8
    second = labels + 0.01
    spread = np.random.default_rng(0).uniform(0, 0.1, 200)
    return EscalationScores(labels=labels, student=student, teacher=labels, second=second, spread=spread)


def test_the_criterion_that_knows_the_mistakes_gains_what_is_possible(told_by_disagreement):
    trial = try_escalation(told_by_disagreement, CUTOFFS, draws=100)
    assert trial.alone["student"].value == pytest.approx(0.8)
    assert trial.alone["teacher"].value == trial.alone["second"].value == 1
    by_disagreement, best = trial.gains["disagreement of two students"], trial.gains[BEST]
    assert [gain.value for gain in by_disagreement["student"]] == pytest.approx([0.05, 0.1, 0.2, 0.2])
    assert [gain.value for gain in best["student"]] == pytest.approx([0.05, 0.1, 0.2, 0.2])
    # at random a share p gains p times what the teacher would gain for all
    assert [gain.value for gain in best["random"]] == pytest.approx([0.04, 0.08, 0.16, 0.12])
    for share, gain in zip(SHARES, trial.gains["distance to the cut-off"]["student"], strict=True):
        assert gain.value < share / 2  # the mistakes lie far from the cut-off
    low, high = by_disagreement["random"][2].interval
    assert 0.05 < low < high < 0.3


def test_a_teacher_that_says_the_same_gains_nothing(told_by_disagreement):
    student = told_by_disagreement.student
    same = EscalationScores(labels=told_by_disagreement.labels, student=student, teacher=student)
    trial = try_escalation(same, CUTOFFS, draws=20)
    assert set(trial.gains) == {"distance to the cut-off", BEST}
    values = [gain.value for by_base in trial.gains.values() for gains in by_base.values() for gain in gains]
    assert values == pytest.approx([0] * len(values), abs=1e-12)
    assert (trial.cascade_share, trial.cascade) == (None, ())
    assert len(rows(trial)) == 4


def test_uncertainty_counts_by_the_distance_to_the_nearest_cut_off():
    scores = EscalationScores(
        labels=np.zeros(3),
        student=np.array([0.45, 0.3, 0.8]),
        teacher=np.zeros(3),
        second=np.array([0.40, 0.1, 0.85]),
        spread=np.array([0.01, 0.05, 0.01]),
    )
    found = criteria(scores, [0.5, 0.75])
    np.testing.assert_allclose(distance(scores.student, [0.5, 0.75]), [0.05, 0.2, 0.05])
    np.testing.assert_allclose(found["disagreement of two students"], [0.05, 0.2, 0.05])
    np.testing.assert_allclose(found["disagreement by distance"], [1, 1, 1], rtol=1e-4)
    np.testing.assert_allclose(found["spread by distance"], [0.2, 0.25, 0.2], rtol=1e-4)


def test_the_share_is_rounded_down_and_the_first_of_equals_goes():
    assert chosen(np.array([1.0, 3.0, 3.0, 0.0, 2.0]), 0.5).tolist() == [False, True, True, False, False]
    assert chosen(np.ones(10), 0.29).tolist() == [True] * 2 + [False] * 8
    assert not chosen(np.ones(3), 0).any()
    assert chosen(np.arange(100.0), 0.29).sum() == 29


def test_the_cascade_asks_each_model_about_what_the_one_before_left_open():
    scores = EscalationScores(
        labels=np.zeros(4),
        second=np.array([0.1, 0.48, 0.53, 0.9]),
        student=np.array([0.2, 0.3, 0.49, 0.7]),
        teacher=np.array([1.0, 2.0, 3.0, 4.0]),
    )
    assert cascade(scores, CUTOFFS, 0.5, 0).tolist() == [0.1, 0.3, 0.49, 0.9]
    assert cascade(scores, CUTOFFS, 0.5, 0.25).tolist() == [0.1, 0.3, 3.0, 0.9]
    assert cascade(scores, CUTOFFS, 0.5, 0.5).tolist() == [0.1, 2.0, 3.0, 0.9]
    assert cascade(scores, CUTOFFS, 0.5, 1).tolist() == [0.1, 2.0, 3.0, 0.9]  # never what the student did not see


def test_tables_and_documents_say_everything(told_by_disagreement):
    trial = try_escalation(told_by_disagreement, CUTOFFS, draws=20)
    table = rows(trial)
    assert {len(row) for row in table} == {len(columns(trial))}
    assert len(table) == 2 * 6 + 1
    text = markdown(trial, "near@1 on set val")
    assert "| best possible | student alone | +0.050" in text
    assert "| cascade, student for 50% | student for all |" in text
    document = json.loads(json.dumps(trial.as_dict(), allow_nan=False))
    assert document["gains"]["disagreement of two students"]["student"]["0.2"]["value"] == pytest.approx(0.2)
    assert list(document["cascade_minus_student"]) == ["0", "0.05", "0.1", "0.2", "0.4"]


def test_the_seed_decides(told_by_disagreement):
    def document(seed):
        return try_escalation(told_by_disagreement, CUTOFFS, draws=30, seed=seed).as_dict()

    assert document(0) == document(0)
    assert document(0) != document(1)
