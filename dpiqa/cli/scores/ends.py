"""The worst and the best of any number of rows, in memory that does not grow with it."""

import heapq
from itertools import count
from typing import Any

from dpiqa.cli.scores.rows import address_of, rank
from dpiqa.exports.growing import Row


class Ends:
    """The worst and the best rows of any number."""

    def __init__(self, prefix: str = "", *, n: int) -> None:
        """`prefix`: of the columns of the model that orders; `n`: rows that are kept of either end."""
        self._prefix, self._n = prefix, n
        self._worst: list[_Entry] = []  # heaps: the first is the one that goes
        self._best: list[_Entry] = []
        self._count = count()

    def add(self, row: Row) -> None:
        """Add a row that has a score."""
        value, address, number = rank(row, self._prefix), address_of(row), next(self._count)
        self._keep(self._worst, (-value, _reversed(address), number, row))
        self._keep(self._best, (value, address, number, row))

    def _keep(self, heap: list["_Entry"], entry: "_Entry") -> None:
        if len(heap) < self._n:
            heapq.heappush(heap, entry)
        elif entry > heap[0]:
            heapq.heapreplace(heap, entry)

    def worst(self) -> list[Row]:
        """Return the rows, the worst first."""
        return [row for *_, row in sorted(self._worst, reverse=True)]

    def best(self) -> list[Row]:
        """Return the rows, the best last."""
        return [row for *_, row in sorted(self._best)]


#: Order: value, address, and the number of the row, which is never the same.
_Entry = tuple[float, Any, int, Row]


def _reversed(text: str) -> tuple[int, ...]:
    """Return a key that orders texts the other way round."""
    return tuple(-ord(char) for char in text)
