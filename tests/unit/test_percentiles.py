"""Percentiles, bands and shares."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dpiqa.errors import InvalidRequest
from dpiqa.percentiles import CUTS, Reference, Share, find_reference, parse_share, read_reference
from dpiqa.types import Band, Direction

EVEN = tuple(n / 100 for n in range(101))
ID = "model:0123456789ab:squash-bilinear-8x8-v1:float32"
finite = st.floats(-1e3, 1e3)
populations = st.lists(finite, min_size=2, max_size=50).map(lambda some: tuple(np.quantile(some, EVEN).tolist()))
directions = st.sampled_from(Direction)


def reference(quantiles=EVEN, direction=Direction.HIGHER, scorer_id=ID):
    ascending = tuple(sorted(quantiles))  # interpolation may be one unit in the last place off
    return Reference(population="p", n=100, scorer_id=scorer_id, command="c", direction=direction, quantiles=ascending)


def worst(percent):
    return Share(percent, worst=True)


def best(percent):
    return Share(percent, worst=False)


@pytest.mark.parametrize(
    ("score", "percentile", "band"),
    [
        (-1, 0, Band.BAD),
        (0, 0, Band.BAD),
        (0.055, 5.5, Band.BAD),
        (0.1, 10, Band.POOR),
        (0.2999, 29.99, Band.POOR),
        (0.3, 30, Band.FAIR),
        (0.5, 50, Band.FAIR),
        (0.7, 70, Band.GOOD),
        (0.9, 90, Band.EXCELLENT),
        (1, 100, Band.EXCELLENT),
        (7, 100, Band.EXCELLENT),
    ],
)
def test_a_score_on_an_even_population(score, percentile, band):
    assert reference().percentile(score) == pytest.approx(percentile)
    assert reference().band(score) is band


def test_where_lower_is_better_the_lowest_are_excellent():
    lower = reference(direction=Direction.LOWER)
    assert lower.percentile(0.05) == pytest.approx(95)
    assert (lower.band(0.05), lower.band(0.95)) == (Band.EXCELLENT, Band.BAD)
    assert lower.score_at(5) == pytest.approx(0.95)
    assert lower.among(0.96, worst(5))
    assert not lower.among(0.94, worst(5))
    assert lower.among(0.04, best(5))
    assert not lower.among(0.06, best(5))


def test_shares_are_those_of_the_population():
    counted = [reference().band(score) for score in np.linspace(0, 1, 10_001)]
    shares = {band: counted.count(band) / len(counted) for band in Band}
    assert shares == {
        Band.BAD: pytest.approx(0.1, abs=1e-3),
        Band.POOR: pytest.approx(0.2, abs=1e-3),
        Band.FAIR: pytest.approx(0.4, abs=1e-3),
        Band.GOOD: pytest.approx(0.2, abs=1e-3),
        Band.EXCELLENT: pytest.approx(0.1, abs=1e-3),
    }
    assert [score for score in (0.04, 0.06, 0.94, 0.96) if reference().among(score, worst(5))] == [0.04]
    assert [score for score in (0.04, 0.06, 0.94, 0.96) if reference().among(score, best(5))] == [0.96]


@given(populations, directions, finite)
def test_each_score_is_in_exactly_the_range_of_its_band(quantiles, direction, score):
    population = reference(quantiles, direction)
    inside = [band for band in Band if within(population.range_of(band, ID), score)]
    assert inside == [population.band(score)]


@given(populations, directions, finite, finite)
def test_a_better_score_never_gets_less(quantiles, direction, first, second):
    population = reference(quantiles, direction)
    worse, better = sorted((first, second), reverse=direction is Direction.LOWER)
    assert 0 <= population.percentile(worse) <= population.percentile(better) <= 100
    assert tuple(Band).index(population.band(worse)) <= tuple(Band).index(population.band(better))


@given(populations, directions, st.integers(0, 100))
def test_a_percentile_becomes_a_score_and_a_percentile_again(quantiles, direction, percent):
    population = reference(quantiles, direction)
    assert population.percentile(population.score_at(percent)) >= percent  # more where many images have the same score
    assert population.among(population.score_at(percent), worst(percent))
    assert population.among(population.score_at(percent), best(100 - percent))


def test_a_population_of_equals():
    population = reference((0.5,) * 101)
    assert [population.percentile(score) for score in (0.4, 0.5, 0.6)] == [0, 100, 100]
    assert [population.band(score) for score in (0.4, 0.5)] == [Band.BAD, Band.EXCELLENT]


@pytest.mark.parametrize("quantiles", [EVEN[:-1], EVEN[::-1], (*EVEN[:-1], float("nan")), (*EVEN[:-1], float("inf"))])
def test_what_is_no_reference(quantiles):
    with pytest.raises(ValidationError):
        Reference(population="p", n=100, scorer_id=ID, command="c", quantiles=quantiles)


def test_it_counts_for_these_weights_in_any_arithmetic_and_for_nothing_else():
    population = reference()
    assert population.fits(ID.replace("float32", "bfloat16+nchw"))
    assert population.fits(ID.replace("model", "renamed"))
    for other in (ID.replace("0123", "3210"), ID.replace("8x8", "9x9"), f"{ID}:portraits@1"):
        assert not population.fits(other)
        assert find_reference([population], other) is None
    by_requirement = reference(scorer_id=f"{ID}:portraits@1")
    assert find_reference([population, by_requirement], f"{ID}:portraits@1") is by_requirement


def test_cards_older_than_references():
    assert read_reference(None, ID) is None
    assert read_reference([reference().model_dump(mode="json")], ID) == reference()


def within(scores, score):
    low = scores.low is None or (score >= scores.low if scores.low_included else score > scores.low)
    high = scores.high is None or (score < scores.high if scores.low_included else score <= scores.high)
    return low and high


def test_the_words_are_as_many_as_the_cuts_make():
    assert len(Band) == len(CUTS) + 1


@pytest.mark.parametrize(("text", "percent"), [("5%", 5), ("5", 5), (" 0.5% ", 0.5), ("100%", 100)])
def test_shares_are_read(text, percent):
    assert parse_share(text, None) == Share(percent, worst=True)
    assert parse_share(None, text) == Share(percent, worst=False)


@pytest.mark.parametrize("text", ["0", "-1%", "101%", "nan", "five", ""])
def test_other_texts_are_not_shares(text):
    with pytest.raises(InvalidRequest, match="not a valid share"):
        parse_share(text, None)


def test_a_query_has_one_share_at_most():
    assert parse_share(None, None) is None
    with pytest.raises(InvalidRequest, match="--worst and --best cannot be combined"):
        parse_share("5%", "5%", field="--{}")
