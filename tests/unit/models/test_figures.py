"""Sections of cards: merged, told stale, refused."""

import pytest

from dpiqa.errors import ConfigurationError, InvalidRequest
from dpiqa.models import folder as folders
from dpiqa.models.brightness import BRIGHTNESS
from dpiqa.models.cards import find_card, stale_sections, with_sections
from dpiqa.models.folder import add_sections, check_card

CARD = BRIGHTNESS.model_copy(update={"name": "mine", "sha256": "a" * 64})


def carrying(**sections):
    return CARD.model_copy(update={"figures": sections})


def test_sections_replace_those_of_their_name_alone():
    card = with_sections(carrying(speed={"ms": 3}, old={"n": 1}), {"old": {"n": 2}, "new": {"n": 3}})
    assert card.figures == {"speed": {"ms": 3}, "old": {"n": 2}, "new": {"n": 3}}


def test_how_the_weights_were_chosen_stays_when_they_are_measured_again():
    figures = {"n": 1, "chosen_on": "these", "weights": {"mine": CARD.sha256}}
    assert with_sections(carrying(val=figures), {"val": {"n": 2}}).figures["val"] == {"n": 2, "chosen_on": "these"}
    others = figures | {"weights": {"mine": "b" * 64}}
    assert with_sections(carrying(val=others), {"val": {"n": 2}}).figures["val"] == {"n": 2}


def test_a_section_is_stale_when_any_of_its_models_has_other_weights():
    teacher = BRIGHTNESS.model_copy(update={"name": "teacher", "sha256": "c" * 64})
    card = carrying(
        fresh={"weights": {"mine": "a" * 64, "teacher": "c" * 64}},
        own={"weights": {"mine": "b" * 64}},
        others={"weights": {"mine": "a" * 64, "teacher": "b" * 64}},
        gone={"weights": {"mine": "a" * 64, "not here": "b" * 64}},
        by_hand={"n": 3},
        odd=["no section"],
    )
    assert stale_sections(card, [teacher]) == ["own", "others"]


def test_a_card_is_changed_in_its_folder_and_the_weights_stay(models_dir):
    card = find_card("small-student", models_dir)
    add_sections(card, models_dir, {"set val": {"n": 2}})
    add_sections(card, models_dir, {"other val": {"n": 3}})
    found = find_card("small-student", models_dir)
    assert found.figures == card.figures | {"set val": {"n": 2}, "other val": {"n": 3}}
    assert found.scorer_id == card.scorer_id
    assert not list(models_dir.glob(".unfinished*"))


def test_what_could_not_be_written_is_refused_beforehand(models_dir, tmp_path, monkeypatch):
    card = find_card("small-student", models_dir)
    check_card(card, models_dir)
    with pytest.raises(InvalidRequest, match=r"the card of small-student is not in"):
        check_card(card, tmp_path)
    with pytest.raises(InvalidRequest, match="of other weights"):
        check_card(card.model_copy(update={"sha256": "b" * 64}), models_dir)
    with pytest.raises(InvalidRequest) as raised:
        check_card(find_card("bundled-student"), models_dir)
    assert "bundled" in raised.value.hint

    def full(*_args, **_kwargs):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(folders, "locked_folder", full)
    with pytest.raises(ConfigurationError, match="cannot be written: Read-only file system"):
        check_card(card, models_dir)
