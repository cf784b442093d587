"""Schemas of exported rows: name, version, and each column with its type and meaning. `docs/exports.md` lists them.

A column that is added, or becomes nullable, keeps the version: readers go by name. A column that is renamed, removed
or changes its type or meaning raises it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from dpiqa.imaging.measured import MEASURE_NAMES
from dpiqa.types import Band, Difference, ItemState, Reason, ResultStatus, Route, Stage, Verdict

#: Types of values: text, 64-bit integers, 64-bit floats, booleans, points in time in UTC.
ColumnType = type[str] | type[int] | type[float] | type[bool] | type[datetime]
_JSON_TYPES: dict[ColumnType, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    datetime: {"type": "string", "format": "date-time"},
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of exported rows."""

    name: str
    kind: ColumnType
    meaning: str
    nullable: bool = False
    choices: tuple[str, ...] = ()  #: the only values; empty: any

    @classmethod
    def of_enum(cls, name: str, members: type[StrEnum], meaning: str, *, nullable: bool = False) -> Self:
        """Return a column of text whose values are the members of an enum."""
        return cls(name, str, meaning, nullable, tuple(members))


@dataclass(frozen=True)
class Schema:
    """The columns of one kind of rows."""

    name: str
    version: int
    meaning: str
    columns: tuple[Column, ...]
    details: tuple[Column, ...] = ()  #: columns that rows have as well where details were asked for

    @property
    def id(self) -> str:
        """Name and version, e.g. `scores@1`."""
        return f"{self.name}@{self.version}"

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(column.name for column in self.columns)

    def with_details(self) -> "Schema":
        """Return the schema of rows with details: the same version, with more columns at the end."""
        return replace(self, columns=(*self.columns, *self.details), details=())

    def of_columns(self, names: Sequence[str]) -> "Schema":
        """Return the schema of rows with these columns: with details, if all of them are there."""
        has_details = {column.name for column in self.details} <= set(names)
        return self.with_details() if has_details and self.details else self

    @property
    def json_file(self) -> Path:
        """The file with the JSON Schema of one row, as it comes with the package."""
        return Path(__file__).parent / "json" / f"{self.name}-{self.version}.json"

    def json_text(self) -> str:
        """Return what that file says."""
        return json.dumps(self.as_json_schema(), indent=2) + "\n"

    def columns_of(self, rows: Sequence[Mapping[str, Any]]) -> "Columns":
        """Return rows as columns; a missing value is None."""
        return [[row.get(name) for row in rows] for name in self.names]

    def as_json_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of one row: a line of a `.jsonl` file, or an element of a `--json` array."""
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": f"urn:dpiqa:schema:{self.id}",
            "title": self.id,
            "description": self.meaning,
            "type": "object",
            "properties": {column.name: _property(column) for column in (*self.columns, *self.details)},
            "required": list(self.names),
        }


#: A batch of rows: a sequence of values for each column of the schema, all of one length.
Columns = Sequence[Sequence[Any]]


def _property(column: Column) -> dict[str, Any]:
    schema: dict[str, Any] = {**_JSON_TYPES[column.kind], "description": column.meaning}
    if column.choices:
        schema["enum"] = [*column.choices, *([None] if column.nullable else [])]
    if column.nullable:
        schema["type"] = [schema["type"], "null"]
    return schema


_OBJECT = (
    Column("bucket", str, "bucket of the object"),
    Column("key", str, "object key, decoded"),
    Column("etag", str, "ETag of the bytes, without quotes; empty where none was read"),
)
_SCORE = "the score that counts, on `scale`; not clamped"
_SCALE = "the meaning of the score: its range, and which end is better"
_PERCENTILE = "share (0 to 100) of the scorer's reference population that is no better; null without a reference"
_BAND = "the word for the score by that population; null without a reference"
_MODEL = "scorer of the score: name, weights, preprocessing, precision, and requirement if any"

#: What makes a picture hard to look at, measured on its decoded pixels: docs/measures.md.
_MEASURES = (
    Column("width", int, "width of the decoded picture, pixels", nullable=True),
    Column("height", int, "height of the decoded picture, pixels", nullable=True),
    Column("sharpness", float, "0 (blurred or flat) to 1", nullable=True),
    Column("contrast", float, "0 to 1: between the darkest and the brightest parts", nullable=True),
    Column("clipped_dark", float, "share (0 to 1) of the pixels that are black", nullable=True),
    Column("clipped_bright", float, "share (0 to 1) of the pixels that are white", nullable=True),
    Column("noise", float, "0 or more: grain in luma steps of 255", nullable=True),
    Column("blockiness", float, "0 or more: steps on JPEG's grid of 8 pixels", nullable=True),
    Column("colour_cast", float, "0 to about 0.6: distance of the mean colour from grey", nullable=True),
)

SCORES = Schema(
    "scores",
    1,
    "The scores that count: one row for each image under a profile.",
    (
        *_OBJECT,
        Column("score", float, _SCORE),
        Column("scale", str, _SCALE),
        Column("percentile", float, _PERCENTILE, nullable=True),
        Column.of_enum("band", Band, _BAND, nullable=True),
        Column("model", str, _MODEL),
        Column.of_enum("stage", Stage, "the model that returned the score"),
        Column.of_enum("status", ResultStatus, "provisional while the teacher is awaited, then final"),
        Column.of_enum("route", Route, "why the image was, or was not, sent to the teacher"),
        Column("student_score", float, "score of the student, if it scored", nullable=True),
        Column("teacher_score", float, "score of the teacher, if it scored", nullable=True),
        Column("profile", str, "profile with its version"),
        Column("current", bool, "whether the store, as far as is known, still holds these bytes"),
        Column("job_id", str, "job that made the result"),
        Column("updated_at", datetime, "when the score or its status last changed"),
    ),
    _MEASURES,
)
_ITEM = (
    Column("job_id", str, "the job"),
    *_OBJECT,
    Column("size", int, "size in bytes, where an event or a listing names it", nullable=True),
    Column("profile", str, "profile that the image is scored by"),
    Column.of_enum("state", ItemState, "state of the image in the job"),
    Column.of_enum("reason", Reason, "why it ended unscored; null unless it did", nullable=True),
    Column("detail", str, "the last error in words", nullable=True),
    Column.of_enum("stage", Stage, "the model that it waits for, or ended with"),
    Column("attempt", int, "how often it was claimed or reopened"),
    Column("crashes", int, "workers of this stage that died while they held it"),
    Column("errors", int, "failures of this stage that are not the image's fault"),
    Column("created_at", datetime, "when it was added to the job"),
    Column("finished_at", datetime, "when it ended; null while it is open", nullable=True),
)
ITEMS = Schema(
    "items",
    1,
    "The images of a job, each with its state, the reason if it ended unscored, and its score.",
    (
        *_ITEM,
        Column("reused", bool, "whether its scores were known before, so that nothing was computed for it"),
        Column.of_enum("route", Route, "why it was, or was not, sent to the teacher", nullable=True),
        Column("score", float, _SCORE + "; null without a result", nullable=True),
        Column("scale", str, _SCALE, nullable=True),
        Column("percentile", float, _PERCENTILE, nullable=True),
        Column.of_enum("band", Band, _BAND, nullable=True),
        Column("model", str, _MODEL, nullable=True),
        Column.of_enum("status", ResultStatus, "provisional or final; null without a result", nullable=True),
        Column("student_score", float, "score of the student, if it scored", nullable=True),
        Column("teacher_score", float, "score of the teacher, if it scored", nullable=True),
    ),
    _MEASURES,
)
FAILURES = Schema("failures", 1, "The images of a job that ended unscored, each with the reason.", _ITEM)

_LOCAL_SCORE = (
    Column.of_enum("state", ItemState, "scored, or how it ended"),
    Column("score", float, _SCORE + "; null where it was not scored", nullable=True),
    Column("scale", str, _SCALE, nullable=True),
    Column("percentile", float, _PERCENTILE, nullable=True),
    Column.of_enum("band", Band, _BAND, nullable=True),
    Column("model", str, "name of the model that scored it", nullable=True),
    Column("scorer_id", str, _MODEL, nullable=True),
    Column.of_enum("stage", Stage, "the model that returned the score, or was to", nullable=True),
    Column.of_enum("route", Route, "why it was, or was not, sent to the teacher", nullable=True),
    Column.of_enum("reason", Reason, "why it was not scored", nullable=True),
    Column("detail", str, "the error in words", nullable=True),
)
#: By these, and by an object's ETag, `dpiqa score --resume` tells that a file or an object is unchanged.
_BYTES = (
    Column("size", int, "bytes, where it could be looked at", nullable=True),
    Column("modified", datetime, "when it was last modified, where it could be looked at", nullable=True),
)
FILES = Schema(
    "files",
    1,
    "Files scored by `dpiqa score`.",
    (Column("path", str, "path as it was given or found"), *_LOCAL_SCORE, *_BYTES),
    _MEASURES,
)
OBJECTS = Schema("objects", 1, "Objects in S3 scored by `dpiqa score`.", (*_OBJECT, *_LOCAL_SCORE, *_BYTES), _MEASURES)
DIFFERENCES = Schema(
    "differences",
    1,
    "The differences between a bucket and the ledger that a reconciliation found.",
    (
        Column.of_enum("kind", Difference, "missing from the ledger, changed, deleted from the bucket, failed earlier"),
        Column("bucket", str, "bucket of the object"),
        Column("key", str, "object key, decoded"),
    ),
)
LABELS = Schema(
    "labels",
    1,
    "The labels of a set: a data set of kind `csv`, relative to the folder that holds the images by their keys.",
    (
        *_OBJECT,
        Column.of_enum("verdict", Verdict, "what the person decided"),
        Column("mos", float, "the verdict as a label of a data set: 1 for accept, 0 for reject"),
        Column("random", bool, "whether the image was drawn at random; otherwise it was chosen"),
        Column("label_set", str, "name of the set"),
        Column("labelled_by", str, "name of the key, bootstrap, local, or cli"),
        Column("labelled_at", datetime, "when it was labelled last"),
    ),
)

#: Every schema, by its id.
SCHEMAS: dict[str, Schema] = {
    schema.id: schema for schema in (SCORES, ITEMS, FAILURES, FILES, OBJECTS, DIFFERENCES, LABELS)
}

#: Schemas whose rows `dpiqa score` widens for several models, by the id of the wide rows.
BY_MODEL: dict[str, Schema] = {f"{schema.name}-by-model@{schema.version}": schema for schema in (FILES, OBJECTS)}
_OF_OBJECT = {"path", "bucket", "key", "etag", "size", "modified", *MEASURE_NAMES}


def by_model(schema: Schema, models: Sequence[str]) -> Schema:
    """Return the schema of wide rows: the object's columns, then the others for each model: `NAME.score`, ..."""
    address = [column for column in schema.columns if column.name in _OF_OBJECT]
    others = [column for column in schema.columns if column not in address]
    columns = [replace(column, name=f"{model}.{column.name}") for model in models for column in others]
    meaning = f"{schema.meaning.rstrip('.')} under several models or profiles, whose names begin the columns."
    return Schema(f"{schema.name}-by-model", schema.version, meaning, (*address, *columns))


def models_of(names: Sequence[str]) -> list[str]:
    """Return the models or profiles of the columns of wide rows, in their order; none for other rows."""
    columns = {column.name for column in _LOCAL_SCORE}
    parts = [name.rpartition(".") for name in names]
    return list(dict.fromkeys(model for model, dot, column in parts if dot and column in columns))
