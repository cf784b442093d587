"""Keyset pages and their cursors: opaque, and valid only for the query they came from. Pure."""

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from dpiqa.errors import InvalidRequest

MAX_LIMIT = 1000  #: rows in one page
MAX_READ = 5_000  #: rows that a page reads at most, where it checks conditions on them

T = TypeVar("T")
Position = list[str | int | float]  #: the sort columns of the last row

_HINT = "leave the cursor out to begin again; use each cursor with the filter it came from, unchanged"


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some rows, and the cursor of the next ones."""

    items: list[T]
    next_cursor: str | None  #: None: this is the last page
    partial: bool = False  #: it ended early, after `MAX_READ` rows: more may fit behind `next_cursor`

    @classmethod
    def cut(cls, rows: Sequence[T], limit: int, cursor_of: Callable[[T], str]) -> "Page[T]":
        """Make a page of `limit` rows. `rows`: one more was read if there are more; `cursor_of`: of the last row."""
        if len(rows) <= limit:
            return cls(list(rows), None)
        return cls(list(rows[:limit]), cursor_of(rows[limit - 1]))


def check_limit(limit: int) -> int:
    """Return `limit`. Raises `InvalidRequest` outside 1-1000."""
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidRequest(f"a page has 1 to {MAX_LIMIT} rows, not {limit}")
    return limit


def encode(query: object, position: Position) -> str:
    """Make a cursor. `query`: all that the rows and their order depend on; its `repr` must be stable."""
    return pack([_digest(query), position])


def decode(query: object, cursor: str, types: list[type]) -> Position:
    """Return the position in a cursor, whose values are of `types`. Raises `InvalidRequest` for any other text."""
    try:
        digest, position = unpack(cursor)
        fits = len(position) == len(types) and all(type(v) is cls for v, cls in zip(position, types, strict=True))
    except (ValueError, TypeError):
        raise malformed_cursor() from None
    if digest != _digest(query) or not fits:
        raise foreign_cursor()
    return list(position)


def pack(values: list[Any]) -> str:
    """Write JSON values as text that needs no escaping in a URL."""
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


def unpack(text: str) -> Any:
    """Read what `pack` wrote. Raises `InvalidRequest` for any other text; the values may still be anything."""
    try:
        return json.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError):
        raise malformed_cursor() from None


def malformed_cursor() -> InvalidRequest:
    """Make the error for text that is not a cursor."""
    return InvalidRequest("invalid cursor", hint=_HINT)


def foreign_cursor() -> InvalidRequest:
    """Make the error for a cursor that another query returned."""
    return InvalidRequest("the cursor is from a different query", hint=_HINT)


def _digest(query: object) -> str:
    return hashlib.sha256(repr(query).encode("utf-8", "replace")).hexdigest()[:16]
