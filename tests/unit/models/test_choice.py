"""Choices of models in profiles: allowed stages, and notation."""

import pytest
from pydantic import ValidationError

from dpiqa.errors import ConfigurationError, InvalidRequest
from dpiqa.models.cards import find_card
from dpiqa.models.choice import ModelChoice, chosen_card, parse_choice, require_role
from dpiqa.profiles import Profile
from dpiqa.types import ModelKind, Precision, Stage

STUDENT = find_card("bundled-tiny")


def of_kind(kind):
    return STUDENT.model_copy(update={"name": "mine", "kind": kind})


def test_a_plain_name_is_written_as_it_was_given():
    profile = Profile(name="x", version=1, student="s", teacher={"model": "t", "precision": "float16"})
    assert profile.model_dump(mode="json")["student"] == "s"
    assert profile.model_dump(mode="json")["teacher"] == {"model": "t", "precision": "float16"}
    assert profile.choices == {
        Stage.STUDENT: ModelChoice(model="s"),
        Stage.TEACHER: ModelChoice(model="t", precision=Precision.FLOAT16),
    }


def test_equal_choices_are_one_model_in_memory():
    assert len({ModelChoice(model="s"), ModelChoice.model_validate("s"), ModelChoice(model="s", precision=None)}) == 1


@pytest.mark.parametrize("stage", ["student", "teacher"])
def test_a_profile_names_the_version_of_its_requirement(stage):
    choices = {"student": "s"} | {stage: {"model": "p", "requirement": "portraits"}}
    with pytest.raises(ValidationError, match=r"portraits@1: a profile never changes"):
        Profile(name="x", version=1, **choices)


@pytest.mark.parametrize("text", ["Portraits", "a b", "a@", "a@0", "a@x", "@1", "a:b"])
def test_what_is_no_name_of_a_requirement_is_told_in_one_line(text):
    with pytest.raises(InvalidRequest, match="requirement") as caught:
        parse_choice(model="p", requirement=text)
    assert "\n" not in str(caught.value)


def test_any_kind_may_see_every_image():
    for kind in ModelKind:
        require_role(of_kind(kind), Stage.STUDENT)


@pytest.mark.parametrize("kind", [ModelKind.TEACHER, ModelKind.PROMPTIQA, ModelKind.PIXELS])
def test_kinds_that_may_be_teachers(kind):
    require_role(of_kind(kind), Stage.TEACHER)


@pytest.mark.parametrize("kind", [ModelKind.STUDENT, ModelKind.ONNX])
def test_kinds_that_may_not(kind):
    with pytest.raises(ConfigurationError, match=f"mine cannot be a teacher: it is of kind {kind}") as caught:
        require_role(of_kind(kind), Stage.TEACHER)
    assert "promptiqa" in caught.value.hint


def test_promptiqa_needs_a_requirement_and_nothing_else_takes_one():
    with pytest.raises(ConfigurationError, match="mine scores by a requirement, and none is named") as caught:
        chosen_card(of_kind(ModelKind.PROMPTIQA), ModelChoice(model="mine"))
    assert "dpiqa requirements create" in caught.value.hint
    for kind in set(ModelKind) - {ModelKind.PROMPTIQA}:
        with pytest.raises(ConfigurationError, match="cannot score by a requirement"):
            chosen_card(of_kind(kind), ModelChoice(model="mine", requirement="portraits"))


def test_options_of_a_choice_are_those_of_its_scorer():
    choice = ModelChoice(model="mine", requirement="portraits@2", precision="bfloat16", channels_last=False)
    card = chosen_card(of_kind(ModelKind.PROMPTIQA), choice)
    assert card.scorer_id.endswith(":bfloat16+nchw")
    prompted = card.model_copy(update={"requirement": "portraits@2"})
    assert prompted.scorer_id == f"{card.scorer_id}:portraits@2"
