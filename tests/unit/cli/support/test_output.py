"""Output: safe on terminals, in spreadsheets and for parsers."""

import csv
import json
import unicodedata
from datetime import UTC, datetime
from uuid import UUID

import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpiqa.addresses import parse_s3
from dpiqa.cli.scores.score import percentiles
from dpiqa.cli.support import console, output
from dpiqa.cli.support.progress import duration
from dpiqa.errors import InvalidRequest
from dpiqa.text import sanitise
from dpiqa.types import ItemState

COLUMNS = {"key": str, "score": float, "current": bool, "at": datetime}
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ROWS = [
    {"key": "=1+1", "score": 0.1, "current": True, "at": AT},
    {"key": 'naïve, "quoted"\n.jpg', "score": None, "current": None, "at": None},
    {"key": "bad\udcff.jpg", "score": -0.5, "current": False, "at": AT},
]


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
    console.print_json_array(iter([{"n": n} for n in range(count)]))
    assert json.loads(capsys.readouterr().out) == [{"n": n} for n in range(count)]


def test_markup_in_cells_is_literal(capsys):
    console.table(("key", "score"), [("[red]x[/red]", 0.25)])
    assert "[red]x[/red]" in capsys.readouterr().out


def test_long_keys_are_not_cut_in_pipes(capsys):
    key = "k" * 1024
    console.table(("key",), [(key,)])
    assert key in capsys.readouterr().out


def test_csv_round_trip(tmp_path):
    assert output.write_rows(tmp_path / "f.csv", COLUMNS, iter(ROWS)) == 3
    with (tmp_path / "f.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {"key": "'=1+1", "score": "0.1", "current": "True", "at": "2026-01-02T03:04:05+00:00"}
    assert rows[1] == {"key": 'naïve, "quoted"\n.jpg', "score": "", "current": "", "at": ""}
    assert rows[2]["score"] == "-0.5"  # numbers are not text: nothing to guard


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_csv_cells_are_no_formulas(start):
    assert output.guarded(f"{start}cmd") == f"'{start}cmd"


def test_jsonl(tmp_path):
    output.write_rows(tmp_path / "f.jsonl", COLUMNS, ROWS)
    lines = [json.loads(line) for line in (tmp_path / "f.jsonl").read_text().splitlines()]
    assert [line["key"] for line in lines] == [row["key"] for row in ROWS]


def test_parquet(tmp_path, monkeypatch):
    monkeypatch.setattr(output, "_ROW_GROUP", 2)
    output.write_rows(tmp_path / "f.parquet", COLUMNS, ROWS)
    table = pyarrow.parquet.read_table(tmp_path / "f.parquet")
    assert table.column("score").to_pylist() == [0.1, None, -0.5]
    assert table.column("at").to_pylist() == [AT, None, AT]
    assert table.column("key").to_pylist()[0] == "=1+1"


def test_an_export_without_rows_has_its_columns(tmp_path):
    output.write_rows(tmp_path / "f.parquet", COLUMNS, [])
    assert pyarrow.parquet.read_table(tmp_path / "f.parquet").column_names == list(COLUMNS)
    output.write_rows(tmp_path / "f.csv", COLUMNS, [])
    assert (tmp_path / "f.csv").read_text().strip() == "key,score,current,at"


def test_a_broken_export_leaves_the_old_file(tmp_path):
    file = tmp_path / "f.csv"
    file.write_text("old")

    def rows():
        yield ROWS[0]
        raise InvalidRequest("the database went away")

    with pytest.raises(InvalidRequest):
        output.write_rows(file, COLUMNS, rows())
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("text", "bucket", "key"),
    [("s3://b1/", "b1", ""), ("s3://b1", "b1", ""), ("S3://b1/a//b c?d#e%20", "b1", "a//b c?d#e%20")],
)
def test_addresses(text, bucket, key):
    address = parse_s3(text)
    assert (address.bucket, address.key) == (bucket, key)


@pytest.mark.parametrize("text", ["b1/key", "https://b1/", "s3:///key", "s3://", "s3://b/k", "s3://a*b/", "/tmp/x"])
def test_no_addresses(text):
    with pytest.raises(InvalidRequest, match="s3://bucket/prefix"):
        parse_s3(text)


def test_durations():
    spans = {0: "0s", 59.6: "1m 00s", 75: "1m 15s", 3720: "1h 02m", 200_000: "2d 7h", None: "?"}
    assert {seconds: duration(seconds) for seconds in spans} == spans


def test_percentiles_interpolate():
    assert percentiles([0.0, 1.0]) == [0.05, 0.25, 0.5, 0.75, 0.95]
    assert percentiles([0.3]) == [0.3] * 5
