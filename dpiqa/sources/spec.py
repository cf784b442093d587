"""The source of a job as a value that the ledger keeps: address, format, filters, and what was read so far. Pure."""

from enum import StrEnum
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

#: A glob. Without `/` it is compared with the last part of a key, otherwise with the whole key; `*` also matches `/`.
Glob = Annotated[str, Field(min_length=1, max_length=1024)]


class ManifestFormat(StrEnum):
    """Format of a manifest. Compression is found by content."""

    LINES = "lines"  #: a key or address per line
    CSV = "csv"  #: with a header, or the columns of S3 Batch Operations: bucket, key, version
    NDJSON = "ndjson"  #: a JSON object per line
    PARQUET = "parquet"
    ORC = "orc"


class Filters(BaseModel):
    """Rules that decide which objects of a source become items."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    include: tuple[Glob, ...] = ()  #: only keys that match one of these; empty: all
    exclude: tuple[Glob, ...] = ()  #: no key that matches one of these
    all_names: bool = False  #: also what by its name is not an image
    since: AwareDatetime | None = None  #: only objects last modified at this time or later, and those without a time
    limit: Annotated[int, Field(ge=1, lt=2**63)] | None = None  #: the first objects of the source, in its order
    sample: Annotated[int, Field(ge=1, le=10_000_000)] | None = None  #: this many objects, chosen at random
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0  #: of the sample


class SourceSpec(Filters):
    """The source of a job, beside its kind, bucket and prefix. `all_names` alone is that of earlier releases."""

    address: str | None = None  #: of a manifest or an inventory: in S3, or the name of the file that was uploaded
    upload: UUID | None = None  #: the uploaded rows of a manifest
    format: ManifestFormat | None = None  #: None: found by name and content
    columns: tuple[str, ...] = ()  #: names of the columns of a CSV without a header
    url_encoded: bool = False  #: keys in the manifest are URL-encoded, as S3 Batch Operations writes them
    max_malformed: Annotated[float, Field(ge=0, le=1)] = 0.01  #: share of rows that may be unreadable

    def stored(self) -> dict[str, Any]:
        """Return what `jobs.source` holds: JSON values, without those that are the default."""
        return self.model_dump(mode="json", exclude_defaults=True)

    @classmethod
    def from_stored(cls, value: dict[str, Any] | None) -> Self:
        """Read `jobs.source`. Jobs of earlier releases have none and passed nothing over."""
        return cls(all_names=True) if value is None else cls.model_validate(value)


class Tally(BaseModel):
    """Numbers of what was read of a source so far: `jobs.tally`. Saved with the cursor, so it survives a kill."""

    model_config = ConfigDict(frozen=True)

    taken: int = 0  #: objects that passed the filters; each is one item, unless the source names it twice
    taken_bytes: int = 0  #: of those, where the source says their size
    passed_over: dict[str, int] = {}  #: objects that did not, by `PassedOver`
    malformed: int = 0  #: rows that could not be read
    examples: tuple[str, ...] = ()  #: the first of those rows
    threshold: int | None = None  #: of a sample: the largest hash that is taken, found by a first pass

    @property
    def read(self) -> int:
        """Rows read so far, malformed ones included."""
        return self.taken + sum(self.passed_over.values()) + self.malformed
