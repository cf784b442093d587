"""Rows to where the user wants them: walked page by page, then a table, a JSON array or a file.

A file is streamed, and in place only when complete.
"""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from dpiqa.cli.support import console
from dpiqa.cli.support.console import shown, to_json
from dpiqa.errors import ConfigurationError, InvalidRequest
from dpiqa.files import replace_file

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from dpiqa.storage.pages import Page

Row = Mapping[str, Any]
#: Name -> type (`str`, `float`, `bool` or `datetime`) of the columns of an export.
Columns = Mapping[str, type]
_ROW_GROUP = 20_000  # rows of a Parquet row group; bounds the memory of an export
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def check_output(path: Path) -> None:
    """Raise `InvalidRequest` for a file that cannot be written, before any work is done for it."""
    if path.suffix.lower() not in _WRITERS:
        raise InvalidRequest(f"cannot write {path.name}", hint=f"end its name in {', '.join(_WRITERS)}")
    if not path.parent.is_dir():
        raise InvalidRequest(f"the folder {path.parent} does not exist", hint="create it first")
    if path.suffix.lower() == ".parquet":
        _pyarrow()


def write_rows(path: Path, columns: Columns, rows: Iterable[Row]) -> int:
    """Write `rows` to `path` in the format its name ends in; returns how many. An error leaves no half file."""
    check_output(path)
    write, count = _WRITERS[path.suffix.lower()], 0

    def fill(partial: Path) -> None:
        nonlocal count
        count = write(partial, columns, rows)

    try:
        replace_file(path, fill)
    except OSError as error:
        raise InvalidRequest(f"cannot write {path}: {error.strerror}", hint="choose another --output") from error
    return count


def guarded(value: Any) -> Any:
    """Return a text cell that no spreadsheet takes for a formula: a leading `= + - @`, tab or CR gets an '."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _cell(value: Any) -> Any:
    """Full precision for numbers, ISO times, guarded text, empty for None."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat()
    return repr(value) if isinstance(value, float) else guarded(shown(value))


def _write_csv(path: Path, columns: Columns, rows: Iterable[Row]) -> int:
    count = 0
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for count, row in enumerate(rows, start=1):  # noqa: B007 - the count is the answer
            writer.writerow([_cell(row.get(name)) for name in columns])
    return count


def _write_jsonl(path: Path, columns: Columns, rows: Iterable[Row]) -> int:
    count = 0
    with path.open("w", encoding="ascii") as file:
        for count, row in enumerate(rows, start=1):  # noqa: B007 - the count is the answer
            file.write(to_json({name: row.get(name) for name in columns}, indent=None) + "\n")
    return count


def _write_parquet(path: Path, columns: Columns, rows: Iterable[Row]) -> int:
    arrow = _pyarrow()
    types = {str: arrow.string(), float: arrow.float64(), bool: arrow.bool_(), datetime: arrow.timestamp("us", "UTC")}
    schema = arrow.schema([(name, types[kind]) for name, kind in columns.items()])
    remaining, count = iter(rows), 0
    with arrow.parquet.ParquetWriter(path, schema) as writer:
        while batch := list(islice(remaining, _ROW_GROUP)):
            writer.write_table(arrow.Table.from_pylist([_arrow_row(row, columns) for row in batch], schema=schema))
            count += len(batch)
    return count


def _arrow_row(row: Row, columns: Columns) -> dict[str, Any]:
    """Text columns as text: ids and enums are not strings, and a file name may hold bytes that are no UTF-8."""
    return {
        name: str(value).encode("utf-8", "backslashreplace").decode() if kind is str and value is not None else value
        for name, kind in columns.items()
        for value in (row.get(name),)
    }


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigurationError(
            "Parquet files need pyarrow, which is not installed", hint="pip install 'dpiqa[parquet]', or write .csv"
        ) from error
    return pyarrow


_WRITERS: dict[str, Callable[[Path, Columns, Iterable[Row]], int]] = {
    ".csv": _write_csv,
    ".jsonl": _write_jsonl,
    ".parquet": _write_parquet,
}


def as_rows(columns: Sequence[str], things: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """Objects as rows of their attributes."""
    for thing in things:
        yield {name: getattr(thing, name) for name in columns}


SHOWN = 20  #: rows of a table unless `--limit` says otherwise; JSON and files hold all


def deliver(
    rows: Iterable[dict[str, Any]],
    columns: Columns,
    *,
    as_json: bool,
    output: Path | None,
    limit: int | None,
    line: "tuple[Sequence[str], Callable[[dict[str, Any]], Sequence[Any]]]",
) -> None:
    """Write rows to `output`, or print them as JSON, or as a table of `line`'s columns and cells."""
    if output is not None:
        console.note(f"{write_rows(output, columns, rows)} rows in {output}")
        if as_json:
            console.print_json({"output": str(output)})
    elif as_json:
        console.print_json_array(rows)
    else:
        _show(rows, limit or SHOWN, *line)


def rows_wanted(*, as_json: bool, output: Path | None, limit: int | None) -> int | None:
    """Return how many rows to ask for, None for all: a table asks for one more, to know that there are more."""
    return limit if as_json or output else (limit or SHOWN) + 1


def _show(
    rows: Iterable[dict[str, Any]],
    limit: int,
    names: Sequence[str],
    cells: Callable[[dict[str, Any]], Sequence[Any]],
) -> None:
    found = list(islice(rows, limit + 1))
    if not found:
        console.note("none found")
        return
    console.table(names, map(cells, found[:limit]))
    if len(found) > limit:
        console.note(f"the first {limit}; there are more: --limit, --json or --output shows them")


T = TypeVar("T")


def walk(engine: "Engine", ask: "Callable[[Connection, int, str | None], Page[T]]", limit: int | None) -> Iterator[T]:
    """Yield rows page by page: all, or the first `limit`. `ask(connection, rows, cursor)` reads a page."""
    from dpiqa.retries import retry_transaction
    from dpiqa.storage.engine import transaction
    from dpiqa.storage.pages import MAX_LIMIT

    left, cursor = limit, None

    def read() -> "Page[T]":
        with transaction(engine) as connection:
            return ask(connection, MAX_LIMIT if left is None else min(left, MAX_LIMIT), cursor)

    while left is None or left > 0:
        page = retry_transaction(read, attempts=1 if cursor is None else 5)  # what never worked is reported at once
        yield from page.items
        cursor = page.next_cursor
        if cursor is None:
            return
        left = None if left is None else left - len(page.items)
