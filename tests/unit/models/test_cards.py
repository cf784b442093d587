import json

import pytest

from dpiqa.errors import CheckpointError, ConfigurationError, NotFound
from dpiqa.models.brightness import BRIGHTNESS
from dpiqa.models.cards import (
    find_card,
    find_scorer_card,
    list_cards,
    stale_sections,
    verify,
    weights_path,
    with_sections,
)
from dpiqa.models.importing.sizes import complete_sizes, preprocessing_of


def test_the_built_in_model_is_listed_as_for_tests():
    cards = {card.name: card for card in list_cards()}
    assert "tests" in cards["brightness"].notes
    assert weights_path(cards["brightness"]) is None


@pytest.mark.parametrize("name", ["bundled-student", "bundled-tiny", "bundled-teacher"])
def test_the_preprocessing_of_a_bundled_model_is_that_of_its_sizes(name):
    card = find_card(name)
    sizes = complete_sizes(card.kind, card.architecture)
    assert preprocessing_of(card.kind, sizes) == card.preprocessing
    squashes = card.preprocessing.version == "squash-bilinear-512x512-v2"
    assert squashes is (name == "bundled-tiny")


def test_models_of_the_user_are_found_beside_the_bundled_ones(models_dir):
    names = [card.name for card in list_cards(models_dir)]
    assert {"brightness", "small-student", "small-teacher"} <= set(names)
    assert names == sorted(names)


def test_an_unknown_name_says_which_there_are(models_dir):
    with pytest.raises(NotFound) as raised:
        find_card("smal-student", models_dir)
    assert "small-student" in raised.value.hint


def test_the_model_of_a_score_is_found_by_its_weights_whatever_its_name_was(models_dir):
    card = find_card("small-student", models_dir)
    assert find_scorer_card(card.scorer_id, models_dir) == card
    assert find_scorer_card(card.scorer_id.replace("small-student", "earlier"), models_dir) == card
    assert find_scorer_card(card.scorer_id.replace(card.sha256[:12], "0" * 12), models_dir) is None
    assert find_scorer_card("small-student", models_dir) is None


def test_scores_of_the_first_bundled_student_are_those_of_the_smallest():
    first = "bundled-student:3d1332457711:squash-bilinear-512x512-v2:float32"
    found = find_scorer_card(first)
    assert found.sha256 == find_card("bundled-tiny").sha256
    assert found.reference.fits(first)
    assert found.reference.quantiles == find_card("bundled-tiny").reference.quantiles


def test_a_changed_file_is_refused_with_both_hashes(models_dir):
    card = find_card("small-student", models_dir)
    verify(card, models_dir)
    path = weights_path(card, models_dir)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError) as raised:
        verify(card, models_dir)
    assert str(path) in raised.value.message
    assert card.sha256 in raised.value.message
    assert raised.value.hint


def test_missing_weights_are_named(models_dir):
    card = find_card("small-student", models_dir)
    (models_dir / card.weights).unlink()
    with pytest.raises(CheckpointError, match=r"small-student\.safetensors"):
        verify(card, models_dir)


def test_a_card_that_cannot_be_read_is_named(models_dir):
    (models_dir / "odd.json").write_text('{"name": "odd"}')
    with pytest.raises(CheckpointError, match=r"odd\.json: kind: is required"):
        list_cards(models_dir)


def test_two_models_may_not_share_a_name(models_dir):
    card = json.loads((models_dir / "small-student.json").read_text()) | {"name": "brightness"}
    (models_dir / "brightness.json").write_text(json.dumps(card))
    with pytest.raises(ConfigurationError, match="two models are called brightness"):
        list_cards(models_dir)


def test_a_missing_models_folder_is_no_empty_one(tmp_path):
    with pytest.raises(ConfigurationError, match="does not exist"):
        list_cards(tmp_path / "nowhere")


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


def test_a_published_model_that_was_not_pulled_has_its_command_as_hint():
    with pytest.raises(NotFound) as caught:
        find_card("dpiqa-student-koniq")
    assert "dpiqa models pull dpiqa-student-koniq" in caught.value.hint
