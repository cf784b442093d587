"""Rows of the database, page by page."""

from collections.abc import Callable, Iterator
from typing import TypeVar

from sqlalchemy import Connection, Engine

from dpiqa.retries import retry_transaction
from dpiqa.storage.engine import transaction
from dpiqa.storage.pages import MAX_LIMIT, Page

T = TypeVar("T")


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
