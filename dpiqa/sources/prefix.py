"""Objects under a prefix: of a bucket, or of a folder, which a store lists like a bucket."""

from collections.abc import Iterator

from dpiqa.objects.store import ObjectStore
from dpiqa.sources.base import SourcePage


class PrefixSource:
    """Every object below a prefix, in the order of the store. The cursor is the last key."""

    def __init__(self, store: ObjectStore, bucket: str, prefix: str) -> None:
        self._store, self._bucket, self._prefix = store, bucket, prefix

    def pages(self, cursor: str | None = None) -> Iterator[SourcePage]:
        """See `Source.pages`."""
        for page in self._store.list(self._bucket, self._prefix, start_after=cursor):
            yield SourcePage(refs=page, cursor=page[-1].key)
