"""Output on the terminal: results on stdout, everything else on stderr, control characters as escapes."""

import dataclasses
import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from enum import Enum
from typing import Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dpiqa.text import sanitise

#: Width of a table that goes into a file or a pipe: keys must not be cut (S3 keys have up to 1,024 bytes).
_PIPE_WIDTH = 2000


#: Columns whose cells are never broken: they are copied, and typed again.
_WHOLE = frozenset({"job", "id", "image", "key", "path", "scorer", "reconciliation", "requirement", "model"})
#: Columns of little use, which a narrow terminal does without; the first ones first.
_LITTLE_USE = (
    "updated", "finished", "created", "started", "seen", "etag", "route", "by", "stage", "student", "scale", "current",
    "status", "licence",
)  # fmt: skip
_GAP = 3  #: characters between two columns
_NARROW = 12  #: characters that a column which may be broken keeps beside one that may not


def stdout() -> Console:
    """Console of the results. Colours only on a terminal and without `NO_COLOR`."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)


def stderr() -> Console:
    """Console of progress, notes and errors."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def plain(value: Any, style: str = "") -> Text:
    """Make a cell that shows `value` literally: no markup, no control characters. None is empty."""
    return Text("" if value is None else sanitise(as_text(value)), style=style)


def as_text(value: Any) -> str:
    """Write a value as people read it: times in local time to the second, scores with four digits."""
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def ordinal(percentile: float | None) -> str | None:
    """Write a percentile (0-100) as `12th`: whole, rounded down, so that what is below the 10th is not shown as it."""
    if percentile is None:
        return None
    n = int(percentile)
    ending = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"


def note(message: str) -> None:
    """Print one line for people on stderr."""
    _say(plain(message))


def warn(message: str) -> None:
    """Print one line with a yellow `warning:` on stderr; the command continues."""
    _say(plain("warning: ", "bold yellow") + plain(message))


def show_error(message: str, hint: str = "") -> None:
    """Print the one line that ends a failed command."""
    line = plain("error: ", "bold red") + plain(message)
    _say(line + plain(f" / hint: {hint}") if hint else line)


def _say(line: Text) -> None:
    """Print on stderr. Where that takes nothing (a full disk), the command still does its work."""
    with suppress(OSError):
        stderr().print(line)


def confirm(question: str) -> bool:
    """Ask on a terminal; without a terminal, assume no."""
    return sys.stdin.isatty() and typer.confirm(question, err=True)


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    title: str = "",
    whole: Sequence[str] = (),
    droppable: Sequence[str] | None = None,
) -> None:
    """Print rows on stdout. Numbers are right-aligned; a cell may be a `Text` with its own style.

    Where the terminal is too narrow, the `droppable` columns are left out, the first ones first: by default those of
    `_LITTLE_USE`. Then cells are broken over lines, except those of `whole` columns and of `_WHOLE`, for which the
    table becomes wider than the terminal.
    """
    values = [list(row) for row in rows]
    cells = [[cell if isinstance(cell, Text) else plain(cell) for cell in row] for row in values]
    widths = [max([len(name), *(row[index].cell_len for row in cells)]) for index, name in enumerate(columns)]
    output, shown = stdout(), list(range(len(columns)))
    whole = [name for name in columns if name in whole or name in _WHOLE]
    if droppable is None:
        droppable = [name for name in _LITTLE_USE if name in columns]
    for name in droppable:
        if sum(widths[index] + _GAP for index in shown) <= output.width:
            break
        shown.remove(columns.index(name))
    if whole:  # a line that is too long is broken by the terminal, from which it can still be copied as one word
        least = sum((widths[i] if columns[i] in whole else min(widths[i], _NARROW)) + _GAP for i in shown)
        output.width = max(output.width, least)
    grid = Table(box=SIMPLE_HEAD, title=plain(title) if title else None, title_justify="left", pad_edge=False)
    for index in shown:
        has_numbers = any(isinstance(row[index], int | float) for row in values)
        no_wrap = columns[index] in whole
        grid.add_column(columns[index], justify="right" if has_numbers else "left", overflow="fold", no_wrap=no_wrap)
    for row in cells:
        grid.add_row(*(row[index] for index in shown))
    output.print(grid)


def fields(pairs: Iterable[tuple[str, Any]]) -> None:
    """Print names and values, one pair per line."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in pairs:
        grid.add_row(plain(name), plain(value))
    stdout().print(grid)


def jsonable(value: Any) -> Any:
    """Return a dataclass, pydantic model, enum, time or id as a JSON value."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, set | frozenset):
        return sorted(value)
    return str(value)


def to_json(value: Any, *, indent: int | None = 2) -> str:
    """Write `value` as JSON text. Raises `ValueError` for NaN and infinity, which JSON cannot represent.

    ASCII only: some control characters above 127 act on terminals, and file names may hold bytes that are not text.
    """
    return json.dumps(value, default=jsonable, indent=indent, allow_nan=False)


def print_json_line(document: str, value: Any) -> None:  # noqa: ARG001 - as `print_json`
    """Print one JSON document as a line on stdout."""
    sys.stdout.write(to_json(value, indent=None) + "\n")
    sys.stdout.flush()


def print_json(document: str, value: Any) -> None:  # noqa: ARG001 - tests compare what is printed with its schema
    """Print one JSON document on stdout.

    `document`: the schema (`dpiqa.cli.documents`) of the value, or of each element where it is an array.
    """
    sys.stdout.write(to_json(value) + "\n")


def print_json_array(document: str, rows: Iterable[Any]) -> None:  # noqa: ARG001 - as `print_json`
    """Print a JSON array row by row, so that memory does not grow with its length. `document`: what each row is."""
    first = True
    for row in rows:
        sys.stdout.write(("[\n  " if first else ",\n  ") + to_json(row, indent=None))
        first = False
    sys.stdout.write("[]\n" if first else "\n]\n")
