"""The source of a job, opened: one branch per kind. The simplest source, a prefix, is here."""

from collections.abc import Iterator

from dpiqa.addresses import is_folder, parse_s3
from dpiqa.objects.store import ObjectStore
from dpiqa.sources.base import Source, SourcePage
from dpiqa.sources.inventory import InventorySource, S3Inventory
from dpiqa.sources.manifest import ManifestSource
from dpiqa.sources.rows import MAX_KEY_BYTES
from dpiqa.sources.spec import SourceSpec
from dpiqa.text import sanitise
from dpiqa.types import JobKind


def open_source(store: ObjectStore, kind: JobKind, bucket: str, prefix: str, spec: SourceSpec) -> Source:
    """Return the source of a job whose rows are not in the ledger. Reads nothing yet."""
    match kind:
        case JobKind.MANIFEST:
            return ManifestSource(store, parse_s3(spec.address or ""), spec, bucket)
        case JobKind.INVENTORY:
            return InventorySource(S3Inventory(store, parse_s3(spec.address or "")), bucket, prefix)
        case _:
            return PrefixSource(store, bucket, prefix)


class PrefixSource:
    """Every object below a prefix of a bucket or folder, in the store's order. The cursor is the last key."""

    def __init__(self, store: ObjectStore, bucket: str, prefix: str) -> None:
        self._store, self._bucket, self._prefix = store, bucket, prefix

    def pages(self, cursor: str | None = None) -> Iterator[SourcePage]:
        """See `Source.pages`."""
        for page in self._store.list(self._bucket, self._prefix, start_after=cursor):
            if not is_folder(self._bucket):
                yield SourcePage(refs=page, cursor=page[-1].key)
                continue
            refs = [ref for ref in page if _is_storable(ref.key)]
            examples = [
                f"file {sanitise(ref.key)}: the path is not UTF-8, or has more than {MAX_KEY_BYTES} bytes"
                for ref in page
                if not _is_storable(ref.key)
            ]
            yield SourcePage(
                refs=refs, cursor=refs[-1].key if refs else cursor, malformed=len(examples), examples=examples[:1]
            )
            cursor = refs[-1].key if refs else cursor


def _is_storable(key: str) -> bool:
    """Return whether a file's path can be an object key: names on disk may be any bytes."""
    try:
        return len(key.encode()) <= MAX_KEY_BYTES
    except UnicodeEncodeError:
        return False
