"""The interface of sources: pages of objects, each with a cursor to resume after it.

A source reads in one direction with flat memory, however many objects there are. To add one, write a class with
`pages`, a member of `JobKind`, and a branch in `dpiqa/sources/opening.py`. Members of `.tar` files will be such a
source: its refs will name the archive as the object, and the member beside it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from dpiqa.types import ImageRef

PAGE_ROWS = 5000  #: objects in a page of a source that chooses the size itself


class PassedOver(StrEnum):
    """Reason why an object of a source does not become an item. A closed list: job reports group by it."""

    NAME = "name"  #: by its name not an image, such as `.txt`, `.xmp` and `Thumbs.db`
    EXCLUDED = "excluded"  #: matches `exclude`
    NOT_INCLUDED = "not_included"  #: matches no pattern of `include`
    OLDER = "older"  #: last modified before `since`
    OTHER_PREFIX = "other_prefix"  #: in the inventory, but outside the prefix
    OLD_VERSION = "old_version"  #: in the inventory, but not the latest version of its key
    DELETE_MARKER = "delete_marker"  #: the latest version in the inventory says that the object was deleted
    NOT_SAMPLED = "not_sampled"  #: left out by `sample`
    NOT_GRANTED = "not_granted"  #: not within the buckets and prefixes of the key that submitted the job


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePage:
    """Some objects of a source. A page may be empty: it then renews the lister's lease, and may advance the cursor."""

    refs: Sequence[ImageRef]
    cursor: str | None  #: reading resumes after it; None: from the beginning
    passed_over: Mapping[PassedOver, int] = field(default_factory=dict)  #: objects that the source itself leaves out
    malformed: int = 0  #: rows that could not be read
    examples: Sequence[str] = ()  #: some of those rows: where, and what is wrong with it


class Source(Protocol):
    """A reader of the objects that a job names."""

    def pages(self, cursor: str | None = None) -> Iterator[SourcePage]:
        """Yield pages of objects, after `cursor`.

        Raises `ConfigurationError` where the source does not exist or may not be read, `InvalidRequest` where it is not
        what it should be, and `Unavailable` where it may be read later.
        """
