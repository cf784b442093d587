"""Formats: what readers of CSV, JSON lines and Parquet find in the files."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta, timezone

import pyarrow.parquet
import pytest

from dpiqa.errors import InvalidRequest
from dpiqa.exports import formats
from dpiqa.exports.destinations import check_output, write_file
from dpiqa.exports.formats import Format, encode
from dpiqa.exports.schemas import SCHEMAS, Column, Schema

AT = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
SCHEMA = Schema(
    "made",
    2,
    "",
    (
        Column("key", str, ""),
        Column("score", float, "", nullable=True),
        Column("n", int, "", nullable=True),
        Column("current", bool, "", nullable=True),
        Column("at", datetime, "", nullable=True),
    ),
)
ROWS = [
    {"key": "=1+1", "score": 0.1, "n": 7, "current": True, "at": AT},
    {"key": 'naïve, "quoted"\r\n.jpg', "score": None, "n": None, "current": None, "at": None},
    {
        "key": "bad\udcff.jpg",
        "score": -0.5,
        "n": -1,
        "current": False,
        "at": AT.astimezone(timezone(timedelta(hours=2))),
    },
]


def written(kind, rows=ROWS, schema=SCHEMA):
    batches = [schema.columns_of(rows[:2]), schema.columns_of(rows[2:])] if rows else []
    return b"".join(encode(kind, schema, batches))


def test_csv_is_rfc_4180_with_iso_times_in_utc():
    data = written(Format.CSV)
    assert data.startswith(b"key,score,n,current,at\r\n")
    rows = list(csv.DictReader(io.StringIO(data.decode(), newline="")))
    at = "2026-01-02T03:04:05.000006Z"
    assert rows == [
        {"key": "'=1+1", "score": "0.1", "n": "7", "current": "true", "at": at},
        {"key": 'naïve, "quoted"\r\n.jpg', "score": "", "n": "", "current": "", "at": ""},
        {"key": "bad\\udcff.jpg", "score": "-0.5", "n": "-1", "current": "false", "at": at},
    ]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_csv_cells_are_no_formulas(start):
    assert formats.guarded(f"{start}cmd") == f"'{start}cmd"


def test_json_lines_hold_every_value():
    lines = [json.loads(line) for line in written(Format.JSONL).splitlines()]
    assert [line["key"] for line in lines] == [row["key"] for row in ROWS]
    assert lines[2] == ROWS[2] | {"at": "2026-01-02T03:04:05.000006Z"}
    assert lines[1]["at"] is lines[1]["n"] is lines[1]["score"] is None


def test_parquet_has_types_names_its_schema_and_is_cut_into_row_groups(monkeypatch):
    monkeypatch.setattr(formats, "ROW_GROUP", 2)
    file = pyarrow.parquet.ParquetFile(io.BytesIO(written(Format.PARQUET)))
    assert (file.num_row_groups, file.metadata.num_rows) == (2, 3)
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    assert file.schema_arrow.metadata[b"dpiqa.schema"] == b"made"
    assert file.schema_arrow.metadata[b"dpiqa.schema_version"] == b"2"
    table = file.read()
    assert table.column("key").to_pylist() == ["=1+1", 'naïve, "quoted"\r\n.jpg', "bad\\udcff.jpg"]
    assert table.column("score").to_pylist() == [0.1, None, -0.5]
    assert table.column("n").to_pylist() == [7, None, -1]
    assert table.column("at").to_pylist() == [AT, None, AT]
    assert not table.schema.field("key").nullable


def test_an_export_without_rows_is_a_valid_file_of_its_schema():
    assert written(Format.CSV, []) == b"key,score,n,current,at\r\n"
    assert written(Format.JSONL, []) == b""
    table = pyarrow.parquet.read_table(io.BytesIO(written(Format.PARQUET, [])))
    assert (table.num_rows, table.column_names) == (0, list(SCHEMA.names))


@pytest.mark.parametrize("kind", Format)
def test_a_broken_export_leaves_the_old_file(tmp_path, kind):
    file = tmp_path / f"f.{kind}"
    file.write_text("old")

    def batches():
        yield SCHEMA.columns_of(ROWS)
        raise InvalidRequest("the database went away")

    with pytest.raises(InvalidRequest):
        write_file(encode(kind, SCHEMA, batches()), file)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_outputs_are_checked_before_any_work(tmp_path):
    assert check_output(str(tmp_path / "a.CSV")) is Format.CSV
    assert check_output("s3://b1/a.parquet") is Format.PARQUET
    assert check_output("-", Format.JSONL) is Format.JSONL
    assert check_output(str(tmp_path / "a.txt"), Format.CSV) is Format.CSV
    for wrong in (
        "-",
        str(tmp_path),
        str(tmp_path / "no" / "a.csv"),
        str(tmp_path / "a.txt"),
        "s3://b1/",
        "s3://b1/a/",
    ):
        with pytest.raises(InvalidRequest):
            check_output(wrong)


def test_schemas_are_named_once_and_their_columns_too():
    assert set(SCHEMAS) == {"scores@1", "items@1", "failures@1", "files@1", "objects@1", "differences@1", "labels@1"}
    for schema in SCHEMAS.values():
        assert len(set(schema.names)) == len(schema.names)
        assert all(column.meaning for column in schema.columns)
        assert schema.json_file.read_text("utf-8") == schema.json_text(), "run `make docs`"
