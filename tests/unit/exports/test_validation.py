"""Validation of files: every export is valid, and what is wrong is named by line and column."""

import json
from datetime import UTC, datetime

import jsonschema_rs
import pyarrow
import pyarrow.parquet
import pytest

from dpiqa.errors import InvalidRequest, NotFound
from dpiqa.exports.formats import Format, encode
from dpiqa.exports.schemas import BY_MODEL, SCHEMAS, SCORES, by_model
from dpiqa.exports.validation import MAX_PROBLEMS, validate

EXPECTED_TIME = "a time with a zone, such as 2026-01-31T12:00:00Z"
VALUES = {str: "=x", int: 7, float: 0.5, bool: True, datetime: datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)}


def row_of(schema, **changes):
    """Return a row of a schema: the first choice, or any value."""
    row = {column.name: column.choices[0] if column.choices else VALUES[column.kind] for column in schema.columns}
    return row | changes


def nulls_of(schema):
    return {column.name: None for column in schema.columns if column.nullable}


def write(path, schema, rows):
    path.write_bytes(b"".join(encode(Format.of_name(path.name), schema, [schema.columns_of(rows)])))
    return path


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=str)
@pytest.mark.parametrize("kind", Format)
def test_every_export_is_valid(tmp_path, schema, kind):
    file = write(tmp_path / f"f.{kind}", schema, [row_of(schema), row_of(schema, **nulls_of(schema))])
    result = validate(file)
    assert (result.schema, result.n_rows, result.problems) == (schema, 2, [])


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=str)
def test_json_lines_fit_the_published_json_schema(tmp_path, schema):
    validator = jsonschema_rs.validator_for(schema.as_json_schema())
    file = write(tmp_path / "f.jsonl", schema, [row_of(schema), row_of(schema, **nulls_of(schema))])
    for line in file.read_text().splitlines():
        validator.validate(json.loads(line))
    with pytest.raises(jsonschema_rs.ValidationError):
        validator.validate({})


def test_a_csv_says_where_it_is_wrong(tmp_path):
    rows = [row_of(SCORES), row_of(SCORES, key="two\nlines"), row_of(SCORES)]
    file = write(tmp_path / "f.csv", SCORES, rows)
    lines = file.read_bytes().decode().split("\r\n")
    lines[3] = lines[3].replace("0.5", "half", 1).replace("true", "yes").replace("Z", "")
    file.write_text("\r\n".join([*lines[:-1], "short", ""]), newline="")
    result = validate(file)
    assert [str(problem) for problem in result.problems] == [
        "line 5, column score: 'half' is not a number",
        "line 5, column current: 'yes' is not true or false",
        f"line 5, column updated_at: '2026-01-02T03:04:05.000000' is not {EXPECTED_TIME}",
        "line 6: 1 cells instead of 17",
    ]


def test_json_lines_say_where_they_are_wrong(tmp_path):
    file = write(tmp_path / "f.jsonl", SCORES, [row_of(SCORES), row_of(SCORES, score=None, band="ugly")])
    file.write_text(file.read_text() + '{"bucket": \n[]\n')
    assert [(problem.line, problem.column) for problem in validate(file).problems] == [
        (2, "score"),
        (2, "band"),
        (3, None),
        (4, None),
    ]


def test_parquet_says_where_it_is_wrong(tmp_path):
    whole = pyarrow.parquet.read_table(write(tmp_path / "f.parquet", SCORES, [row_of(SCORES)] * 3))
    names = whole.column_names
    wrong = whole.set_column(names.index("score"), "score", pyarrow.array([0.1, float("nan"), 0.2]))
    wrong = wrong.set_column(names.index("current"), "current", pyarrow.array(["a", "b", "c"]))
    pyarrow.parquet.write_table(wrong.drop_columns(["key"]), tmp_path / "wrong.parquet")
    assert [str(problem) for problem in validate(tmp_path / "wrong.parquet").problems] == [
        "column key: missing, scores@1 has it",
        "column current: has type string, must be bool",
        "line 2, column score: nan is not a finite number",
    ]


def test_problems_are_counted_and_not_all_listed(tmp_path):
    file = write(tmp_path / "f.jsonl", SCORES, [row_of(SCORES, score=None)] * 30)
    result = validate(file)
    assert (result.n_problems, len(result.problems)) == (30, MAX_PROBLEMS)


def test_unknown_files_get_a_hint(tmp_path):
    (tmp_path / "f.csv").write_text("bucket,key,points\r\n")
    with pytest.raises(InvalidRequest, match="of no schema") as error:
        validate(tmp_path / "f.csv")
    assert "nearest is" in error.value.hint
    (tmp_path / "f.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(InvalidRequest, match="not a whole Parquet file"):
        validate(tmp_path / "f.parquet")
    with pytest.raises(NotFound):
        validate(tmp_path / "none.csv")
    with pytest.raises(NotFound, match="no schema is called"):
        validate(tmp_path / "f.csv", "prices")


@pytest.mark.parametrize(("schema_id", "base"), BY_MODEL.items())
@pytest.mark.parametrize("kind", Format)
def test_rows_of_several_models_are_checked_model_by_model(tmp_path, schema_id, base, kind):
    schema = by_model(base, ["student.v2", "careful@1"])
    file = write(tmp_path / f"f.{kind}", schema, [row_of(schema), row_of(schema, **nulls_of(schema))])
    for asked in (None, schema_id, schema_id.partition("@")[0]):
        result = validate(file, asked)
        assert (result.schema.id, result.schema.names, result.n_rows, result.problems) == (
            (schema_id, schema.names, 2, [])
        )


@pytest.mark.parametrize("kind", Format)
def test_details_are_checked_where_they_are(tmp_path, kind):
    schema = SCORES.with_details()
    nothing = dict.fromkeys(column.name for column in SCORES.details)
    file = write(tmp_path / f"f.{kind}", schema, [row_of(schema), row_of(schema, **nothing)])
    for asked in (None, "scores@1"):
        result = validate(file, asked)
        assert (result.schema.names, result.n_problems) == (schema.names, 0)
    if kind is Format.CSV:
        file.write_text(file.read_text().replace(",0.5\n", ",grey\n", 1))
        assert "colour_cast: 'grey' is not a number" in str(validate(file).problems[0])


def test_rows_of_several_models_say_where_they_are_wrong(tmp_path):
    schema = by_model(SCHEMAS["files@1"], ["one", "two"])
    file = write(tmp_path / "f.csv", schema, [row_of(schema)])
    file.write_text(file.read_text().replace("two.band", "two.label").replace("scored", "lost", 1))
    text = file.read_text().replace("0.5", "half", 1)
    file.write_text(text)
    assert [str(problem) for problem in validate(file).problems] == [
        "column two.band: missing, files-by-model@1 has it",
        "line 2, column one.score: 'half' is not a number",
    ]


def test_a_dataset_is_checked_file_by_file(tmp_path):
    with pytest.raises(NotFound, match=r"no \.parquet file"):
        validate(tmp_path)
    for bucket, score in (("a", 0.5), ("b", float("nan"))):
        folder = tmp_path / f"bucket={bucket}"
        folder.mkdir()
        write(folder / "part-00000.parquet", SCORES, [row_of(SCORES, score=score)] * 2)
    result = validate(tmp_path)
    assert (result.schema, result.n_rows, result.n_problems) == (SCORES, 4, 2)
    assert str(result.problems[0]) == ("bucket=b/part-00000.parquet, line 1, column score: nan is not a finite number")
    write(tmp_path / "other.parquet", SCHEMAS["failures@1"], [row_of(SCHEMAS["failures@1"])])
    assert str(validate(tmp_path).problems[-1]) == "other.parquet: is of failures@1, not of scores@1"
