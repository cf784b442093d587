"""A model card as people read it."""

import json
from importlib.resources import files

import pytest

from dpiqa.cli.models.card_view import card_lines

MADE_FROM = {"vae": {"sha256": "ab", "made_from": {"first_start": {"sha256": "cd"}}}, "teacher": {"sha256": "ef"}}


def read(document):
    return [f"{name}: {line}" for name, line in card_lines(document)]


def test_plain_and_nested_values_are_lines_and_empty_ones_are_left_out():
    document = {"name": "m", "file": None, "sizes": {"a": 1, "b": {"c": [1, 2]}}, "names": ["x", "y"]}
    assert read(document) == ["name: m", "sizes: a: 1", ": b: c 1, 2", "names: x", ": y"]


def test_every_kind_of_section_says_what_was_asked():
    value, opposite = {"value": 0.98}, "on opposite sides of a cut-off 0.050 of the images"
    figures = {
        "set val": {
            "n": 9,
            "srcc": 0.5,
            "intervals_95": {"srcc": [0.4, 0.6]},
            "subsets": {"s": {"n": 4, "srcc": 0.25}},
        },
        "distortions": {
            "pictures": 2,
            "kinds": 3,
            "falling": ["a"],
            "rising_at_strengths": {"b": [1, 5]},
            "flat": ["c"],
        },
        "seeds": {
            "runs": ["x", "y"],
            "parts": {"all": {"spread": {"srcc": {"mean": 0.5, "deviation": 0.1, "lowest": 0.4, "highest": 0.6}}}},
        },
        "routing": {
            "verdict": "It pays.",
            "teacher_against_student": {"srcc": value, "mean_absolute_difference": 0.01, "opposite_sides": 0.05},
        },
        "other": {"updates": 3, "made_from": MADE_FROM, "command": "dpiqa train"},
        "prose": "measured once",
    }
    assert read({"figures": figures}) == [
        "set val: 9 images: SRCC 0.500 [0.400, 0.600]",
        ": s: 4 images, SRCC 0.250",
        "distortions: the score falls with strength for 1 of 3 kinds (2 pictures)",
        ": not for b (rises at 1, 5)",
        ": does not move for c",
        "seeds: all: SRCC of 2 runs 0.500, deviation 0.100 (0.400 to 0.600)",
        "routing: It pays.",
        f": teacher against student: SRCC 0.980, mean absolute difference 0.010, {opposite}",
        "other: updates 3",
        ": made from vae: sha256 ab",
        ": made from first start of vae: sha256 cd",
        ": made from teacher: sha256 ef",
        ": $ dpiqa train",
        "prose: measured once",
    ]


def test_invariance_is_said_by_edit():
    edits = {"twice_the_size": {"mean_size": 0.0571, "size_95": 0.1149, "mean_change": -0.05}}
    lines = read({"figures": {"invariance": {"pictures": 100, "failures": 0, "edits": edits}}})
    assert lines == [
        "invariance: twice the size moves the score by 0.057 on average, 95 % by less than 0.115 (100 pictures)",
    ]


@pytest.mark.parametrize("odd", [None, 3, "text", ["a"], {"a": 1}, {"all": {"spread": 1}}])
def test_a_card_written_by_hand_is_shown_whatever_it_says(odd):
    keys = (
        "srcc",
        "intervals_95",
        "subsets",
        "falling",
        "rising_at_strengths",
        "parts",
        "verdict",
        "made_from",
        "edits",
    )
    sections = {key: {"srcc": 0.5, "falling": [], key: odd} for key in (*keys, "teacher_against_student", "command")}
    assert dict(card_lines({"figures": sections | {"plain": odd}})).keys() >= set(sections)


@pytest.mark.parametrize("name", ["bundled-student", "bundled-teacher", "bundled-tiny"])
def test_the_bundled_cards_say_how_good_their_models_are_and_where_they_fail(name):
    document = json.loads((files("dpiqa.models.bundled") / f"{name}.json").read_text("utf-8"))
    text = "\n".join(read(document))
    assert "582 images: SRCC 0." in text
    assert ("not for " in text) is bool(document["figures"]["distortions"]["rising_at_strengths"])
    assert "of 3 runs" in text
    assert ("Routing by with-teacher@" in text) is (name != "bundled-tiny")  # no built-in profile routes its scores
    assert "$ dpiqa train " in text
    assert not any("\n" in line or "{" in line for _, line in card_lines(document))
