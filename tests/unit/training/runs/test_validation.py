"""Agreement of scores with labels."""

import numpy as np
import pytest

from dpiqa.training.runs.validation import agreement


def test_scores_that_are_no_numbers_have_no_merit():
    labels = np.array([0.1, 0.2, 0.3])
    assert np.isnan(agreement(np.array([0.1, np.nan, 0.3]), labels).merit)
    assert agreement(labels, labels).merit == pytest.approx(1)
