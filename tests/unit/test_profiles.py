import json

import pytest

from dpiqa.errors import ConfigurationError, NotFound
from dpiqa.profiles import Profile, list_profiles, load_profile

GOOD = 'name = "mine"\nversion = {version}\nstudent = "s"\n'


def test_the_built_in_profiles():
    assert [profile.name for profile in list_profiles()] == ["default", "smoke", "student-only", "tiny", "with-teacher"]
    default, with_teacher = load_profile("default"), load_profile("with-teacher")
    assert (default.student.model, default.teacher) == ("bundled-student", None)
    assert (with_teacher.student.model, with_teacher.teacher.model) == ("bundled-student", "bundled-teacher")
    assert load_profile(default.id) == default


def test_a_name_means_its_newest_version(tmp_path):
    for version in (1, 2, 10):
        (tmp_path / f"{version}.toml").write_text(GOOD.format(version=version))
    assert load_profile("mine", tmp_path).id == "mine@10"
    assert load_profile("mine@2", tmp_path).version == 2
    assert "default" in [profile.name for profile in list_profiles(tmp_path)]


def test_a_folder_that_does_not_exist_is_said(tmp_path):
    with pytest.raises(ConfigurationError, match="nowhere does not exist") as raised:
        list_profiles(tmp_path / "nowhere")
    assert "DPIQA_PROFILES_DIR" in raised.value.hint


def test_an_unknown_profile_names_the_known():
    with pytest.raises(NotFound, match="smoke@1") as caught:
        load_profile("defalt")
    assert "defalt" in caught.value.message


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("name = ", "TOML"),
        ('name = "x"\nversion = 1\n', "student"),
        (GOOD.format(version=0), "version"),
        (GOOD.format(version=1) + "max_escalated_share = 1.5\n", "max_escalated_share"),
        (GOOD.format(version=1) + "marign = 1\n", "marign"),
        (GOOD.format(version=1) + "[[cutoffs]]\nat = nan\nmargin = 0.1\n", "cutoffs"),
        (GOOD.format(version=1) + "[[cutoffs]]\nat = 0.5\nmargin = -0.1\n", "margin"),
        ('name = "A b"\nversion = 1\nstudent = "s"\n', "name"),
        (f'name = "default"\nversion = {load_profile("default").version}\nstudent = "s"\n', "again"),
    ],
)
def test_a_bad_file_is_one_line_that_names_it(tmp_path, text, word):
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=r"bad\.toml") as caught:
        list_profiles(tmp_path)
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_choice_with_options_is_an_inline_table(tmp_path):
    student = '{ model = "promptiqa", requirement = "portraits@1", precision = "bfloat16", channels_last = false }'
    (tmp_path / "mine.toml").write_text(GOOD.format(version=1).replace('"s"', student))
    mine = load_profile("mine", tmp_path)
    assert (mine.student.model, mine.student.requirement) == ("promptiqa", "portraits@1")
    assert str(mine.student) == "promptiqa (portraits@1, bfloat16, channels first)"
    assert Profile.model_validate_json(mine.model_dump_json()) == mine


def test_definitions_of_profiles_stay_what_they_were_before_choices_had_options():
    """The ledger refuses an id whose definition changed: this is how default@1 was stored by the first release."""
    stored = {
        "name": "default",
        "version": 1,
        "description": "The bundled student for every image, the bundled teacher near the usual keep/drop cut-offs.",
        "student": "bundled-student",
        "teacher": "bundled-teacher",
        "cutoffs": [{"at": 0.35, "margin": 0.05}, {"at": 0.6, "margin": 0.05}],
        "max_escalated_share": 0.2,
    }
    assert json.loads(Profile.model_validate(stored).model_dump_json()) == stored
