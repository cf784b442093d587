"""Sides of cut-offs."""

import numpy as np

from dpiqa.evaluation.paired import same_side, sides


def test_a_cut_off_itself_is_above():
    assert sides(np.array([0.3, 0.5, 0.7]), [0.5]).tolist() == [[False], [True], [True]]


def test_a_decision_is_right_only_on_the_side_of_every_cut_off():
    mos = np.array([0.2, 0.5, 0.9])
    assert same_side(np.array([0.3, 0.3, 0.3]), mos, [0.4, 0.6]).tolist() == [True, False, False]
    assert same_side(np.array([0.5, 0.5, 0.5]), mos, [0.4, 0.6]).tolist() == [False, True, False]
    assert same_side(np.array([0.5, 0.5, 0.5]), mos, [0.4]).tolist() == [False, True, True]
