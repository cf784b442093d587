import json
from pathlib import Path

import numpy as np
import pytest

from dpiqa.datasets.spec import LabelledImage
from dpiqa.errors import InvalidRequest
from dpiqa.evaluation.agreement import srcc
from dpiqa.evaluation.comparison import (
    COLUMNS,
    PAIR_COLUMNS,
    POOLED,
    SPREAD_COLUMNS,
    card_sections,
    compare,
    markdown,
    pair_rows,
    rows,
    spread_rows,
)
from dpiqa.evaluation.paired import pair_scores
from dpiqa.evaluation.scored_images import Failure, ScoredImages
from dpiqa.types import Reason

N = 120
RNG = np.random.default_rng(5)
MOS = RNG.random(N)
COMMON = MOS + RNG.normal(0, 0.3, N)  # an error that both models share
IMAGES = tuple(LabelledImage(Path(f"{i}.jpg"), float(MOS[i]), "val", "ab"[i % 2]) for i in range(N))


def scored(name, scores, failures=None):
    return ScoredImages(f"{name}:1", IMAGES, np.array(scores, dtype=float), failures or {})


@pytest.fixture(scope="module")
def comparison():
    answers = {"one": COMMON, "two": COMMON + RNG.normal(0, 0.02, N), "three": MOS}
    return compare(pair_scores({name: scored(name, scores) for name, scores in answers.items()}), draws=150)


def test_figures_are_those_of_the_correlation_pooled_and_by_subset(comparison):
    assert list(comparison.parts) == [POOLED, "a", "b"]
    assert comparison.parts[POOLED].figures["one"]["srcc"].value == srcc(COMMON, MOS)
    assert comparison.parts["b"].figures["one"]["srcc"].value == srcc(COMMON[1::2], MOS[1::2])
    assert comparison.parts["b"].n == 60


def test_differences_are_paired(comparison):
    part = comparison.parts[POOLED]
    assert set(part.differences) == {"two", "three"}
    alike, better = part.differences["two"]["srcc"], part.differences["three"]["srcc"]
    alone = part.figures["one"]["srcc"].interval
    assert alike.interval[1] - alike.interval[0] < (alone[1] - alone[0]) / 2
    assert better.value == pytest.approx(1 - srcc(COMMON, MOS))
    assert better.interval[0] > 0


def test_the_spread_is_over_models(comparison):
    part = comparison.parts[POOLED]
    values = [figures["srcc"].value for figures in part.figures.values()]
    spread = part.spread("srcc")
    assert (spread.mean, spread.deviation) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    assert (spread.lowest, spread.highest) == (min(values), max(values))


def test_reports_fit_their_columns(comparison):
    for columns, lines in (
        (COLUMNS, rows(comparison)),
        (SPREAD_COLUMNS, spread_rows(comparison)),
        (PAIR_COLUMNS, pair_rows(comparison)),
    ):
        assert {len(line) for line in lines} == {len(columns)}
    assert "## Over the runs" in markdown(comparison, "set val", seeds=True)
    assert "## Over the runs" not in markdown(comparison, "set val", seeds=False)


def test_sections_for_the_first_models_card(comparison):
    assert list(card_sections(comparison, "set val", seeds=True)) == ["seeds on set val"]
    sections = card_sections(comparison, "set val", seeds=False)
    assert list(sections) == ["against two on set val", "against three on set val"]
    assert sections["against three on set val"]["differences_of_other"]["all"]["srcc"]["value"] > 0


def test_what_one_model_failed_on_leaves_all_and_is_counted():
    gone = COMMON.copy()
    gone[3] = np.nan
    failure = {IMAGES[3].path: Failure(Reason.CORRUPT)}
    both = pair_scores({"one": scored("one", COMMON), "two": scored("two", gone, failure)})
    assert both.scores.shape == (2, N - 1)
    assert both.failures == failure
    assert MOS[3] not in both.labels
    with pytest.raises(InvalidRequest, match="0 of 120 images were scored by all"):
        pair_scores({"one": scored("one", [np.nan] * N)})


def test_what_is_not_defined_is_null():
    flat = compare(pair_scores({"one": scored("one", COMMON), "flat": scored("flat", [0.5] * N)}), draws=20)
    document = json.loads(json.dumps(flat.as_dict(), allow_nan=False))
    assert document["parts"]["all"]["figures"]["flat"]["srcc"] == {"value": None, "95": None}
    assert document["parts"]["all"]["spread"]["srcc"]["mean"] is None
