"""Cutting work into parts of a bounded size."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")

RECORD_ITEMS = 64  #: items per transaction, and so per routing decision, at most


def in_parts(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of up to `size` values."""
    iterator = iter(values)
    while part := list(islice(iterator, size)):
        yield part
