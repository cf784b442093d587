import pytest

from dpiqa.evaluation.monotone import TOLERANCE, monotone


@pytest.mark.parametrize(
    ("scores", "rises", "falls", "verdict"),
    [
        ([0.6, 0.5, 0.4, 0.3], (), True, "falls"),
        ([0.6, 0.5, 0.5, 0.5], (), True, "falls"),  # saturated is not a rise
        ([0.6, 0.6, 0.6, 0.6], (), False, "does not move"),
        ([0.6, 0.5995, 0.6, 0.5999], (), False, "does not move"),  # within the tolerance
        ([0.6, 0.7, 0.4, 0.3], (1,), False, "rises at 1"),
        ([0.6, 0.4, 0.5, 0.3], (2,), False, "rises at 2"),
        ([0.6, 0.4, 0.5, 0.45], (2, 3), False, "rises at 2, 3"),  # 3 is still above 1
        ([0.6, 0.4, 0.4008, 0.4016], (3,), False, "rises at 3"),  # in steps below the tolerance
        ([0.3, 0.4], (1,), False, "rises at 1"),
    ],
)
def test_where_scores_rise(scores, rises, falls, verdict):
    course = monotone(scores)
    assert (course.rises, course.falls, str(course)) == (rises, falls, verdict)
    assert course.drop == pytest.approx(scores[0] - scores[-1])


def test_the_tolerance_is_the_callers():
    assert monotone([0.6, 0.61, 0.5]).rises == (1,)
    assert monotone([0.6, 0.61, 0.5], tolerance=0.02).falls
    assert TOLERANCE == 0.001  # what README and docs/evaluation.md promise


def test_one_score_is_no_course():
    with pytest.raises(ValueError, match="at least one more"):
        monotone([0.5])
