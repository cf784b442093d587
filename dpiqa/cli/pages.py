"""Walking keyset pages: each in a transaction of its own, so that an export of hours holds none open."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from dpiqa.storage.pages import Page

Row = TypeVar("Row")
_PAGE = 1000  # rows; the largest page there is


def walk(
    engine: "Engine", ask: "Callable[[Connection, int, str | None], Page[Row]]", limit: int | None
) -> Iterator[Row]:
    """Yield rows page by page: all, or the first `limit`. `ask(connection, rows, cursor)` reads a page."""
    from dpiqa.storage.engine import retrying, transaction

    left, cursor = limit, None

    def read() -> "Page[Row]":
        with transaction(engine) as connection:
            return ask(connection, _PAGE if left is None else min(left, _PAGE), cursor)

    while left is None or left > 0:
        page = retrying(read, attempts=1 if cursor is None else 5)  # what never worked is reported at once
        yield from page.rows
        cursor = page.next_cursor
        if cursor is None:
            return
        left = None if left is None else left - len(page.rows)
