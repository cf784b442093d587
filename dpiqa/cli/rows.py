"""Rows to where the user wants them: a table, a JSON array, a file."""

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from dpiqa.cli import console, export

SHOWN = 20  #: rows of a table unless `--limit` says otherwise; JSON and files hold all


def deliver(
    rows: Iterable[dict[str, Any]],
    columns: export.Columns,
    *,
    as_json: bool,
    output: Path | None,
    limit: int | None,
    line: "tuple[Sequence[str], Callable[[dict[str, Any]], Sequence[Any]]]",
) -> None:
    """Write rows to `output`, or print them as JSON, or as a table of `line`'s columns and cells."""
    if output is not None:
        console.note(f"{export.write_rows(output, columns, rows)} rows in {output}")
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
