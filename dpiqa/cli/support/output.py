"""Output of rows: read page by page, then a table, a JSON array, or a CSV, JSONL or Parquet file.

A file is streamed, and replaces an older one only when it is complete.
"""

import csv
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine

from dpiqa.cli.support import console
from dpiqa.errors import InvalidRequest
from dpiqa.extras import required_for
from dpiqa.files import replace_file
from dpiqa.retries import retry_transaction
from dpiqa.storage.engine import transaction
from dpiqa.storage.pages import MAX_LIMIT, Page

T = TypeVar("T")
Row = Mapping[str, Any]
#: Name -> type (`str`, `float`, `bool` or `datetime`) of the columns of an export.
Columns = Mapping[str, type]
#: Column names of a table on the terminal, and the function that makes a line of cells from a row.
TableLayout = tuple[Sequence[str], Callable[[dict[str, Any]], Sequence[Any]]]
TABLE_ROWS = 20  #: rows of a table unless `--limit` is given; JSON and files hold all rows
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
    """Write `rows` to `path` in the format that its name ends in. Returns the number of rows."""
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
    """Return a CSV cell: full precision for numbers, ISO times, guarded text, empty for None."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat()
    return repr(value) if isinstance(value, float) else guarded(console.as_text(value))


def _write_csv(path: Path, columns: Columns, rows: Iterable[Row]) -> int:
    count = 0
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for count, row in enumerate(rows, start=1):  # noqa: B007 - the count is returned
            writer.writerow([_cell(row.get(name)) for name in columns])
    return count


def _write_jsonl(path: Path, columns: Columns, rows: Iterable[Row]) -> int:
    count = 0
    with path.open("w", encoding="ascii") as file:
        for count, row in enumerate(rows, start=1):  # noqa: B007 - the count is returned
            file.write(console.to_json({name: row.get(name) for name in columns}, indent=None) + "\n")
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
    """Convert text columns to text: ids and enums are not strings, and a file name may hold bytes other than UTF-8."""
    return {
        name: str(value).encode("utf-8", "backslashreplace").decode() if kind is str and value is not None else value
        for name, kind in columns.items()
        for value in (row.get(name),)
    }


def _pyarrow() -> Any:
    with required_for("a Parquet file"):
        import pyarrow  # noqa: PLC0415 - an extra
        import pyarrow.parquet  # noqa: PLC0415 - an extra
    return pyarrow


_WRITERS: dict[str, Callable[[Path, Columns, Iterable[Row]], int]] = {
    ".csv": _write_csv,
    ".jsonl": _write_jsonl,
    ".parquet": _write_parquet,
}


def as_rows(columns: Collection[str], records: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """Yield records as rows of these attributes."""
    for record in records:
        yield {name: getattr(record, name) for name in columns}


def read_pages(
    engine: Engine, read_page: Callable[[Connection, int, str | None], Page[T]], limit: int | None
) -> Iterator[T]:
    """Yield rows page by page: all, or the first `limit`. `read_page(connection, rows, cursor)` reads one page.

    Each page is read in a transaction of its own, so that an export of hours holds none open.
    """
    remaining, cursor = limit, None

    def read() -> Page[T]:
        with transaction(engine) as connection:
            return read_page(connection, MAX_LIMIT if remaining is None else min(remaining, MAX_LIMIT), cursor)

    while remaining is None or remaining > 0:
        # A failure of the first page is reported at once; an export that has begun waits for the database.
        page = retry_transaction(read, attempts=1 if cursor is None else 5)
        yield from page.items
        cursor = page.next_cursor
        if cursor is None:
            return
        remaining = None if remaining is None else remaining - len(page.items)


def row_limit(*, as_json: bool, output: Path | None, limit: int | None) -> int | None:
    """Return how many rows to read, None for all: a table reads one more, to tell whether there are more."""
    return limit if as_json or output else (limit or TABLE_ROWS) + 1


def print_rows(
    rows: Iterable[dict[str, Any]],
    columns: Columns,
    layout: TableLayout,
    *,
    as_json: bool,
    output: Path | None,
    limit: int | None,
) -> None:
    """Write rows to the file `output`, or print them as JSON, or as a table with this layout."""
    if output is not None:
        console.note(f"{write_rows(output, columns, rows)} rows in {output}")
        if as_json:
            console.print_json({"output": str(output)})
        return
    if as_json:
        console.print_json_array(rows)
        return
    table_rows = limit or TABLE_ROWS
    first = list(islice(rows, table_rows + 1))
    if not first:
        console.note("none found")
        return
    names, cells = layout
    console.table(names, map(cells, first[:table_rows]))
    if len(first) > table_rows:
        console.note(f"the first {table_rows}; there are more: --limit, --json or --output shows them")
