"""Percentiles and bands of many scores are those of one."""

import numpy as np
import pytest

from dpiqa.exports.ranks import rank_by
from dpiqa.percentiles import Reference
from dpiqa.types import Direction


@pytest.mark.parametrize("direction", Direction)
def test_many_scores_rank_as_each_alone(direction):
    quantiles = sorted([*np.linspace(0.1, 0.9, 90).tolist(), *[0.5] * 11])
    reference = Reference(
        population="p", n=1000, scorer_id="m:w:p:float32", command="c", direction=direction, quantiles=tuple(quantiles)
    )
    scores = np.array([*quantiles, *np.linspace(-0.2, 1.2, 301)])
    percentiles, bands = rank_by(reference, scores)
    assert percentiles.tolist() == pytest.approx([reference.percentile(score) for score in scores.tolist()])
    assert bands.tolist() == [reference.band(score) for score in scores.tolist()]
