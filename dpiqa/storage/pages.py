"""Keyset cursors: opaque, and good only for the question they came from. Pure."""

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from typing import Generic, TypeVar

from dpiqa.errors import InvalidRequest

Row = TypeVar("Row")
Position = list[str | int | float]  #: the sort columns of the last row

_HINT = "leave the cursor out to begin again; use each cursor with the filter it came from, unchanged"


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """Some rows, and where the next ones are; no cursor: this is the last page."""

    rows: list[Row]
    next_cursor: str | None


def encode(question: object, position: Position) -> str:
    """Make a cursor. `question`: all that the rows and their order depend on; its `repr` must be stable."""
    return base64.urlsafe_b64encode(json.dumps([_digest(question), position]).encode()).decode().rstrip("=")


def decode(question: object, cursor: str, kinds: list[type]) -> Position:
    """Return the position in a cursor, whose values are of `kinds`. Raises `InvalidRequest` for any other text."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        digest, position = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        fits = len(position) == len(kinds) and all(type(v) is kind for v, kind in zip(position, kinds, strict=True))
    except (ValueError, TypeError, binascii.Error, RecursionError):
        raise InvalidRequest("the cursor is not one of ours", hint=_HINT) from None
    if digest != _digest(question) or not fits:
        raise InvalidRequest("the cursor belongs to another question", hint=_HINT)
    return list(position)


def _digest(question: object) -> str:
    return hashlib.sha256(repr(question).encode("utf-8", "replace")).hexdigest()[:16]
