"""Checks of what `--json` printed: the document that a file holds, and the values that do not fit."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dpiqa.cli.documents.catalogue import DOCUMENTS
from dpiqa.cli.documents.document import Document
from dpiqa.errors import InvalidRequest, NotFound
from dpiqa.exports.schemas import BY_MODEL, SCHEMAS, Schema, by_model, models_of
from dpiqa.exports.validation import MAX_PROBLEMS, Problem, problem_of
from dpiqa.validation import problem_in_words


@dataclass(frozen=True, slots=True)
class DocumentValidation:
    """The result of reading a whole file."""

    schema: Document | Schema
    n_rows: int  #: documents
    n_problems: int
    problems: list[Problem]  #: the first `MAX_PROBLEMS`


def check_file(path: Path, schema_id: str | None = None) -> DocumentValidation:
    """Check a file of JSON, one document, an array of them or one a line, against its schema.

    `schema_id`: None: the schema whose fields the first document has. Raises `NotFound`, `InvalidRequest`.
    """
    if not path.is_file():
        raise NotFound(f"there is no file {path}", hint="name a .json file, or lines of JSON")
    values = _read(path)
    first = values[0] if values else None
    schema = _find(first) if schema_id is None else _known(schema_id, first)
    found = [problem for index, value in enumerate(values, start=1) for problem in problems(schema, value, index)]
    return DocumentValidation(schema, len(values), len(found), found[:MAX_PROBLEMS])


def problems(schema: Document | Schema, value: Any, number: int) -> Iterator[Problem]:
    """Yield what does not fit in one document. `number`: of it in the file, from 1."""
    if isinstance(schema, Schema):
        if not isinstance(value, dict):
            yield Problem(number, None, "is not an object")
            return
        for column in schema.columns:
            message = problem_of(column, value[column.name]) if column.name in value else "is missing"
            if message is not None:
                yield Problem(number, column.name, message)
        return
    try:
        schema.adapter.validate_json(json.dumps(value))
    except ValidationError as error:
        for one in error.errors(include_url=False, include_input=False):
            yield Problem(number, ".".join(map(str, one["loc"])) or None, problem_in_words(one))


def _read(path: Path) -> list[Any]:
    hint = "save what a command prints with --json"
    try:
        text = path.read_text("utf-8")
        try:
            whole = json.loads(text)
        except ValueError:
            return [json.loads(line) for line in text.splitlines() if line.strip()]
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror or error}", hint="check its permissions") from None
    except (ValueError, RecursionError):
        raise InvalidRequest(f"{path} is not JSON", hint=hint) from None
    return whole if isinstance(whole, list) else [whole]


def _known(schema_id: str, first: Any) -> Document | Schema:
    known: dict[str, Document | Schema] = {**DOCUMENTS, **SCHEMAS, **BY_MODEL}
    for name in (schema_id, f"{schema_id}@1"):
        if name in BY_MODEL:
            return by_model(BY_MODEL[name], models_of(list(first) if isinstance(first, dict) else []))
        if name in known:
            return known[name]
    raise NotFound(f"no schema is called {schema_id!r}", hint=f"one of {', '.join(known)}")


def _find(first: Any) -> Document | Schema:
    """Return the schema that has the most of the fields of a document, and all of whose own it has."""
    names = set(first) if isinstance(first, dict) else set()
    candidates: list[tuple[int, Document | Schema]] = []
    for schema in SCHEMAS.values():
        if set(schema.names) <= names:
            candidates.append((len(schema.names), schema))
    for document in DOCUMENTS.values():
        required, known = document.fields
        if required and required <= names:
            candidates.append((len(known & names), document))
    if not candidates:
        raise InvalidRequest("these are the fields of no known document", hint="name the schema: --schema job@1")
    return max(candidates, key=lambda pair: pair[0])[1]
