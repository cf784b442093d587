"""Validation of exported files: the schema that a file follows, and the values that do not fit, by line and column."""

import csv
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from dpiqa.errors import InvalidRequest, NotFound
from dpiqa.exports.formats import PARTITION_KEY, SCHEMA_KEY, VERSION_KEY, Format, arrow_schema_of
from dpiqa.exports.schemas import BY_MODEL, SCHEMAS, Column, Schema, by_model, models_of
from dpiqa.extras import required_for

MAX_PROBLEMS = 20  #: reported; the rest of the file is still read, to count its rows
_BATCH = 10_000
_NAMES: dict[Any, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    datetime: "a time with a zone, such as 2026-01-31T12:00:00Z",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """A value, line or column that does not fit."""

    line: int | None  #: of the file, from 1; of a Parquet file the row; None: the file as a whole
    column: str | None
    message: str
    file: str | None = None  #: path in the dataset; None where one file is read

    def __str__(self) -> str:
        place = [self.file] if self.file is not None else []
        place += [f"line {self.line}"] if self.line is not None else []
        place += [f"column {self.column}"] if self.column is not None else []
        return f"{', '.join(place)}: {self.message}" if place else self.message


@dataclass(frozen=True, slots=True)
class Validation:
    """The result of reading a whole file."""

    schema: Schema
    format: Format
    n_rows: int
    n_problems: int
    problems: list[Problem]  #: the first `MAX_PROBLEMS`


def validate(path: Path, schema_id: str | None = None) -> Validation:
    """Read a file, or all files of a dataset, and check every row.

    `schema_id`: the schema that it should follow; None: the one it claims.
    Raises `NotFound` for a file that does not exist, `InvalidRequest` for one that follows no known schema.
    """
    if schema_id is not None:
        schema_id = _known_id(schema_id)
    if path.is_dir():
        return _validate_dataset(path, schema_id)
    if not path.is_file():
        hint = "name a .csv, .jsonl or .parquet file, or the folder of a dataset; copy objects of S3 to the disk"
        raise NotFound(f"there is no file {path}", hint=hint)
    kind = Format.of_name(path.name)
    try:
        if kind is Format.PARQUET:
            return _validate_parquet(path, schema_id)
        if kind is Format.JSONL:
            return _validate_jsonl(path, schema_id)
        return _validate_csv(path, schema_id)
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{path} is not UTF-8 text: {error.reason}", hint="export it again") from None
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror or error}", hint="check its permissions") from None


def _validate_dataset(folder: Path, schema_id: str | None) -> Validation:
    """Read all Parquet files below a folder as one. They all have to follow the schema of the first."""
    files = sorted(folder.rglob("*.parquet"))
    if not files:
        raise NotFound(f"there is no .parquet file in {folder}", hint="name a file, or the folder of a dataset")
    found = [validate(file, schema_id) for file in files]
    schema, n_problems = found[0].schema, sum(one.n_problems for one in found)
    problems: list[Problem] = []
    for file, one in zip(files, found, strict=True):
        name = str(file.relative_to(folder))
        if one.schema.id != schema.id:
            problems.append(Problem(None, None, f"is of {one.schema.id}, not of {schema.id}", name))
            n_problems += 1
        problems += [replace(problem, file=name) for problem in one.problems]
    return Validation(schema, Format.PARQUET, sum(one.n_rows for one in found), n_problems, problems[:MAX_PROBLEMS])


def _known_id(schema_id: str) -> str:
    """Return the id of a schema by its id or name. Raises `NotFound`."""
    known = (*SCHEMAS, *BY_MODEL)
    for name in (schema_id, f"{schema_id}@1"):
        if name in known:
            return name
    raise NotFound(f"no schema is called {schema_id!r}", hint=f"one of {', '.join(known)}")


def _schema_of(names: Sequence[str], schema_id: str | None) -> Schema:
    """Return the schema of an id, or the one that these columns show. Raises `InvalidRequest`."""
    if schema_id is None:
        return find_schema(names)
    if schema_id in SCHEMAS:
        return SCHEMAS[schema_id].of_columns(names)
    return by_model(BY_MODEL[schema_id].of_columns(names), models_of(names))


def find_schema(names: Sequence[str]) -> Schema:
    """Return the schema that has all its columns among `names`, the most specific one. Raises `InvalidRequest`.

    Columns of several models, `NAME.score`, are those of a schema by model, even if one is missing.
    """
    models = models_of(names)
    if models and ("path" in names or {"bucket", "key"} <= set(names)):
        schema = BY_MODEL["files-by-model@1" if "path" in names else "objects-by-model@1"]
        return by_model(schema.of_columns(names), models)
    fitting = [schema for schema in SCHEMAS.values() if set(schema.names) <= set(names)]
    if fitting:
        return max(fitting, key=lambda schema: len(schema.names)).of_columns(names)
    nearest = max(SCHEMAS.values(), key=lambda schema: len(set(schema.names) & set(names)) / len(schema.names))
    missing = [name for name in nearest.names if name not in names]
    raise InvalidRequest(
        "the columns are those of no schema",
        hint=f"nearest is {nearest.id}, without {', '.join(missing[:6])}{', ...' if len(missing) > 6 else ''}; "
        f"known are {', '.join((*SCHEMAS, *BY_MODEL))}",
    )


class _Problems:
    def __init__(self) -> None:
        self.n, self.first = 0, list[Problem]()

    def add(self, line: int | None, column: str | None, message: str) -> None:
        self.n += 1
        if len(self.first) < MAX_PROBLEMS:
            self.first.append(Problem(line, column, message))


def _validate_csv(path: Path, schema_id: str | None) -> Validation:
    problems, n_rows = _Problems(), 0
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = next(reader, [])
            schema = _schema_of(header, schema_id)
            _check_names(header, schema, problems)
            places = [(header.index(column.name), column) for column in schema.columns if column.name in header]
            line = reader.line_num + 1
            for cells in reader:
                n_rows += 1
                if len(cells) != len(header):
                    problems.add(line, None, f"{len(cells)} cells instead of {len(header)}")
                else:
                    for place, column in places:
                        message = _csv_problem(column, cells[place])
                        if message:
                            problems.add(line, column.name, message)
                line = reader.line_num + 1
        except csv.Error as error:
            problems.add(reader.line_num, None, f"not CSV: {error}")
    return Validation(schema, Format.CSV, n_rows, problems.n, problems.first)


def _check_names(names: Sequence[str], schema: Schema, problems: _Problems) -> None:
    """Report missing columns. Others are allowed: later releases may add some."""
    for name in schema.names:
        if name not in names:
            problems.add(None, name, f"missing, {schema.id} has it")


def _csv_problem(column: Column, cell: str) -> str | None:
    if cell == "":
        return None if column.nullable or column.kind is str else f"empty, must be {_NAMES[column.kind]}"
    value: Any = cell
    if column.kind in (int, float):
        with suppress(ValueError):
            value = column.kind(cell)
    elif column.kind is bool:
        value = {"true": True, "false": False}.get(cell, cell)
    return problem_of(column, value)


def _validate_jsonl(path: Path, schema_id: str | None) -> Validation:
    problems, n_rows = _Problems(), 0
    schema: Schema | None = None
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            n_rows += 1
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                problems.add(number, None, f"not JSON at character {error.colno}: {error.msg}")
                continue
            if not isinstance(row, dict):
                problems.add(number, None, "not a JSON object")
                continue
            schema = schema or _schema_of(list(row), schema_id)
            for column in schema.columns:
                message = problem_of(column, row[column.name]) if column.name in row else "missing"
                if message:
                    problems.add(number, column.name, message)
    if schema is None and schema_id is not None:
        schema = _schema_of((), schema_id)
    if schema is None:
        if problems.n:
            raise InvalidRequest(f"{path} holds no JSON object", hint=str(problems.first[0]))
        raise InvalidRequest(f"{path} is empty: it fits every schema", hint="pass --schema")
    return Validation(schema, Format.JSONL, n_rows, problems.n, problems.first)


def problem_of(column: Column, value: Any) -> str | None:
    """Return what is wrong with a value of a JSON line; None if nothing is."""
    if value is None:
        return None if column.nullable else f"null, must be {_NAMES[column.kind]}"
    if not _is_of(column.kind, value):
        return f"{_shown(value)} is not {_NAMES[column.kind]}"
    if isinstance(value, float) and not math.isfinite(value):
        return f"{_shown(value)} is not a finite number"
    if column.choices and value not in column.choices:
        return f"{_shown(value)} is not one of {', '.join(column.choices)}"
    return None


def _is_of(kind: Any, value: Any) -> bool:
    if kind is datetime:
        with suppress(ValueError, TypeError):
            return datetime.fromisoformat(value).tzinfo is not None
        return False
    kinds = (int, float) if kind is float else (kind,)
    return isinstance(value, kinds) and (kind is bool or not isinstance(value, bool))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _validate_parquet(path: Path, schema_id: str | None) -> Validation:
    with required_for("a Parquet file"):
        import pyarrow as pa  # noqa: PLC0415 - an extra
        import pyarrow.parquet as pq  # noqa: PLC0415 - an extra
    problems = _Problems()
    try:
        file = pq.ParquetFile(path)
        metadata = {key.decode(): value.decode() for key, value in (file.schema_arrow.metadata or {}).items()}
        claimed = f"{metadata[SCHEMA_KEY]}@{metadata.get(VERSION_KEY)}" if SCHEMA_KEY in metadata else None
        claimed = schema_id or (_known_id(claimed) if claimed else None)
        schema = _schema_of(file.schema_arrow.names, claimed)
        in_path = metadata.get(PARTITION_KEY, "").split(",")
        present = [column for column in schema.columns if column.name in file.schema_arrow.names]
        _check_names([*file.schema_arrow.names, *in_path], schema, problems)
        for column in list(present):
            expected, found = (s.field(column.name).type for s in (arrow_schema_of(schema), file.schema_arrow))
            if expected != found:
                problems.add(None, column.name, f"has type {found}, must be {expected}")
                present.remove(column)
        n_rows = 0
        for batch in file.iter_batches(_BATCH, columns=[column.name for column in present]):
            for row, name, message in _batch_problems(batch, present):
                problems.add(n_rows + row + 1, name, message)
            n_rows += batch.num_rows
    except pa.ArrowException as error:
        raise InvalidRequest(f"{path} is not a whole Parquet file: {error}", hint="export it again") from None
    return Validation(schema, Format.PARQUET, n_rows, problems.n, problems.first)


def _batch_problems(batch: Any, columns: Iterable[Column]) -> Iterator[tuple[int, str, str]]:
    """Yield (row, column, message). Only columns that a type does not check are read value by value."""
    for column in columns:
        values = batch.column(column.name)
        if not column.nullable and values.null_count:
            nulls = (row for row, value in enumerate(values.is_null().to_pylist()) if value)
            yield from ((row, column.name, f"null, must be {_NAMES[column.kind]}") for row in nulls)
        if column.choices or column.kind is float:
            for row, value in enumerate(values.to_pylist()):
                message = problem_of(column, value) if value is not None else None
                if message:
                    yield row, column.name, message
