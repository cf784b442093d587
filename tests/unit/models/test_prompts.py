import pytest

from dpiqa.errors import InvalidRequest, NotFound
from dpiqa.models.prompts import PAPER, PROMPT_TABLES, PUBLISHED, SMALL, TextPooling, prompt_table, read_prompt_table

TABLE = """
template = "{quality} {scene} with {distortion}"
qualities = ["bad", "good"]
scenes = ["cat"]
distortions = ["blur", "noise", "haze"]
"""


@pytest.mark.parametrize(
    ("name", "shape"), [("small-90", (5, 3, 6)), ("published-1485", (5, 9, 33)), ("paper-1925", (5, 11, 35))]
)
def test_a_table_is_built_by_name_and_has_as_many_different_texts_as_its_name_says(name, shape):
    table = prompt_table(name)
    assert table.shape == shape
    assert len(table.texts()) == len(set(table.texts())) == int(name.split("-")[1])


def test_prompts_are_nested_with_quality_outermost():
    texts = SMALL.texts()
    assert texts[0] == "a photo of people with no artifacts, which is of bad quality"
    assert texts[1] == "a photo of people with blur artifacts, which is of bad quality"
    assert texts[-1] == "a photo of a city with colour artifacts, which is of perfect quality"


def test_the_published_prompts_are_worded_as_the_published_code_words_them():
    texts = PUBLISHED.texts()
    assert texts[0] == "a photo of a animal with jpeg2000 compression artifacts, which is of bad quality"
    assert texts[33 * 7 + 6] == "a photo of a still_life with contrast artifacts, which is of bad quality"
    assert texts[33 * 9 * 3] == "a photo of a animal with jpeg2000 compression artifacts, which is of good quality"
    assert texts[-1] == "a photo of a others with other realistic artifacts, which is of perfect quality"


def test_the_papers_prompts_speak_of_distortion_and_are_averaged_over_tokens():
    assert PAPER.texts()[0] == "a photo of a animal with jpeg2000 compression distortion, which is of bad quality"
    assert PAPER.pooling is TextPooling.TOKEN_MEAN
    assert PUBLISHED.pooling is TextPooling.PROJECTED


def test_only_a_table_with_unconfirmed_words_is_called_reconstructed():
    assert [name for name, table in PROMPT_TABLES.items() if table.reconstructed] == ["paper-1925"]


def test_an_unknown_table_names_those_there_are():
    with pytest.raises(NotFound, match="published-1485"):
        prompt_table("large")


def test_a_table_of_ones_own_is_a_toml_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(TABLE + 'pooling = "token-mean"\n')
    table = read_prompt_table(path)
    assert table.texts()[:2] == ["bad cat with blur", "bad cat with noise"]
    assert table.texts()[-1] == "good cat with haze"
    assert table.pooling is TextPooling.TOKEN_MEAN


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("with {distortion}", "", "template"),
        ("with {distortion}", "with {distortion} {lens}", "template"),
        ('["cat"]', "[]", "scenes"),
        ('"blur", "noise"', '"noise", "noise"', "distortions"),
        ('["cat"]', '["cat", ""]', "scenes"),
        ("qualities", "levels", "qualities"),
        ("=", "", "TOML"),
    ],
)
def test_a_broken_table_names_the_file_and_what_is_wrong(tmp_path, old, new, complaint):
    path = tmp_path / "mine.toml"
    path.write_text(TABLE.replace(old, new))
    with pytest.raises(InvalidRequest, match=complaint) as raised:
        read_prompt_table(path)
    assert "mine.toml" in str(raised.value)
