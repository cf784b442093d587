"""Text made safe to show, to log and to store; ETags; times; one line of a validation error; a Markdown table."""

import html
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from dpiqa.validation import problem_in_words

if TYPE_CHECKING:
    from pydantic import ValidationError

_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def sanitise(text: str) -> str:
    r"""Return `text` with control, format and surrogate characters as escapes (`\x1b`): safe on a terminal."""
    return "".join(
        char.encode("unicode_escape", "surrogatepass").decode("ascii")
        if unicodedata.category(char) in _UNSAFE_CATEGORIES
        else char
        for char in text
    )


def shorten(text: str, limit: int) -> str:
    """Return at most `limit` characters of `text`, with characters that cannot be printed as escapes."""
    clean = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text[: limit + 1])
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def first_line(error: BaseException) -> str:
    """Type and first line of an error, at most 300 characters: short enough for a row or a log line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


def reason_of(error: BaseException) -> str:
    """First line of a library's error, to be quoted in one of ours; its type if it has no text."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def storable(text: str | None) -> str | None:
    """Return `text` as Postgres can store it: without NUL and without halves of surrogate pairs."""
    return None if text is None else text.replace("\x00", "").encode("utf-8", "replace").decode()


def bare_etag(text: str | None) -> str:
    """Return an ETag without quotes and without the mark of a weak one; "" for none.

    Some servers and proxies send `W/"x"`, no quotes at all, or quotes that were escaped twice in XML.
    """
    bare = html.unescape(text or "").strip()
    return bare.removeprefix("W/").strip("\"'").strip()


def iso_utc(value: datetime) -> str:
    """Write a time in UTC as ISO 8601 with microseconds, e.g. `2026-01-02T03:04:05.000000Z`."""
    return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def iso_minute(value: datetime) -> str:
    """Write a time in UTC to the minute, for sentences, e.g. `2026-01-02T03:04Z`."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%MZ")


class FieldError(NamedTuple):
    """The first error of a validation; as a string one line, `plan.epochs: must be greater than 0`."""

    location: tuple[int | str, ...]  #: of the field, from the outermost table inwards; empty: the whole value
    field: str  #: the location with dots, or the name of the whole value
    message: str  #: begins in lower case
    kind: str  #: pydantic's name of the error, e.g. `extra_forbidden`

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


def first_field_error(error: "ValidationError", whole: str = "value") -> FieldError:
    """Return the first thing that a validation found wrong, without the value itself, which may be a secret.

    `whole`: name of the value that was checked, for an error that is not of one of its fields.
    """
    first = error.errors(include_url=False, include_input=False)[0]
    message = problem_in_words(first)
    field = ".".join(map(str, first["loc"])) or whole
    return FieldError(first["loc"], field, message[:1].lower() + message[1:], first["type"])


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Write a Markdown table; `|` in a cell is escaped."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
