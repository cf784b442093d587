"""The source of a job, opened: one branch per kind."""

from dpiqa.objects.store import ObjectStore
from dpiqa.sources.base import Source
from dpiqa.sources.prefix import PrefixSource
from dpiqa.sources.spec import SourceSpec
from dpiqa.types import JobKind


def open_source(store: ObjectStore, kind: JobKind, bucket: str, prefix: str, spec: SourceSpec) -> Source:
    """Return the source of a job whose rows are not in the ledger. Reads nothing yet."""
    match kind:
        case JobKind.PREFIX | JobKind.WATCH:
            return PrefixSource(store, bucket, prefix)
        case _:
            raise NotImplementedError(f"{kind}: {spec.address}")
