"""Output: safe on terminals, in spreadsheets and for parsers."""

import json
import unicodedata
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpiqa.addresses import parse_s3
from dpiqa.cli.scores.summary import percentiles
from dpiqa.cli.support import console
from dpiqa.cli.support.progress import duration
from dpiqa.errors import InvalidRequest
from dpiqa.text import sanitise
from dpiqa.types import ItemState

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@given(st.text())
def test_sanitised_text_has_no_control_characters(text):
    result = sanitise(text)
    assert not {unicodedata.category(char) for char in result} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    result.encode("utf-8")  # no halves of surrogate pairs


def test_sanitising_leaves_words_alone():
    assert sanitise("Ångström/日本 1.jpg") == "Ångström/日本 1.jpg"
    assert sanitise("a\x1b]0;owned\x07\u202eb") == "a\\x1b]0;owned\\x07\\u202eb"


def test_json_is_ascii_and_strict():
    text = console.to_json({"key": "é\x9b\udcff", "state": ItemState.SCORED, "at": AT, "id": UUID(int=7)})
    assert text.isascii()
    assert json.loads(text)["state"] == "scored"
    with pytest.raises(ValueError, match="JSON"):
        console.to_json(float("nan"))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_json_arrays(capsys, count):
    console.print_json_array("n@1", iter([{"n": n} for n in range(count)]))
    assert json.loads(capsys.readouterr().out) == [{"n": n} for n in range(count)]


def test_markup_in_cells_is_literal(capsys):
    console.table(("key", "score"), [("[red]x[/red]", 0.25)])
    assert "[red]x[/red]" in capsys.readouterr().out


def test_long_keys_are_not_cut_in_pipes(capsys):
    key = "k" * 1024
    console.table(("key",), [(key,)])
    assert key in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "bucket", "key"),
    [("s3://b1/", "b1", ""), ("s3://b1", "b1", ""), ("S3://b1/a//b c?d#e%20", "b1", "a//b c?d#e%20")],
)
def test_addresses(text, bucket, key):
    address = parse_s3(text)
    assert (address.bucket, address.key) == (bucket, key)


@pytest.mark.parametrize("text", ["b1/key", "https://b1/", "s3:///key", "s3://", "s3://-b/k", "s3://a*b/", "/tmp/x"])
def test_no_addresses(text):
    with pytest.raises(InvalidRequest, match="s3://bucket/prefix"):
        parse_s3(text)


def test_durations():
    spans = {0: "0s", 59.6: "1m 00s", 75: "1m 15s", 3720: "1h 02m", 200_000: "2d 7h", None: "?"}
    assert {seconds: duration(seconds) for seconds in spans} == spans


def test_percentiles_interpolate():
    assert percentiles([0.0, 1.0]) == [0.05, 0.25, 0.5, 0.75, 0.95]
    assert percentiles([0.3]) == [0.3] * 5
