"""S3 Inventory as a source: the manifest.json of one report, and its data files as CSV, Parquet or ORC."""

import hashlib
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Protocol

from pydantic import BaseModel, Field, ValidationError, field_validator

from dpiqa.addresses import BUCKET_PATTERN, S3Address
from dpiqa.errors import InvalidRequest, NotFound
from dpiqa.objects.store import ObjectStore
from dpiqa.sources.base import SourcePage
from dpiqa.sources.manifest import download, look_up, page_of
from dpiqa.sources.readers import read_rows
from dpiqa.sources.rows import positions, ref_maker
from dpiqa.sources.spec import ManifestFormat
from dpiqa.text import first_field_error, reason_of

MAX_MANIFEST_BYTES = 64 * 1024 * 1024  #: of a manifest.json; that of a billion objects has some hundred kilobytes
_FORMATS = {"CSV": ManifestFormat.CSV, "PARQUET": ManifestFormat.PARQUET, "ORC": ManifestFormat.ORC}


class InventoryFile(BaseModel):
    """One data file."""

    key: str = Field(min_length=1)  #: in the destination bucket
    md5: str = Field("", alias="MD5checksum", pattern=r"^([0-9A-Fa-f]{32})?$")  #: hex; empty where a server writes none
    size: int = Field(0, ge=0)


class Inventory(BaseModel):
    """A manifest.json."""

    source_bucket: str = Field(alias="sourceBucket")  #: the bucket whose objects are named
    destination_bucket: str = Field("", alias="destinationBucket")  #: the bucket of the data files
    file_format: str = Field(alias="fileFormat")
    file_schema: str = Field("", alias="fileSchema")  #: of CSV: the columns, with commas
    files: tuple[InventoryFile, ...]
    created_ms: int | None = Field(
        None, alias="creationTimestamp", ge=0, lt=10**14
    )  #: since 1970; S3 writes it as text

    @property
    def created_at(self) -> datetime | None:
        """Time from which it was made: it may lack what was written or deleted shortly before."""
        return None if self.created_ms is None else datetime.fromtimestamp(self.created_ms / 1000, UTC)

    @field_validator("source_bucket", "destination_bucket")
    @classmethod
    def _bucket(cls, value: str) -> str:
        name = value.rpartition(":")[2]  # arn:aws:s3:::name
        if name and not re.fullmatch(BUCKET_PATTERN, name):
            raise ValueError(f"{value!r} is not a bucket")
        return name

    @property
    def format(self) -> ManifestFormat:
        """Format of the data files."""
        return _FORMATS[self.file_format.upper()]

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the data files, if they are CSV."""
        is_csv = self.format is ManifestFormat.CSV
        return tuple(name.strip() for name in self.file_schema.split(",")) if is_csv else ()


def parse_inventory(data: bytes, name: str) -> Inventory:
    """Read a manifest.json. Raises `InvalidRequest` for anything else."""
    hint = "name the manifest.json of an S3 Inventory; a manifest of your own goes to --list"
    try:
        inventory = Inventory.model_validate_json(data)
    except ValidationError as error:
        raise InvalidRequest(
            f"{name} is not a manifest of S3 Inventory: {first_field_error(error)}", hint=hint
        ) from None
    if inventory.file_format.upper() not in _FORMATS:
        raise InvalidRequest(f"{name}: unknown format {inventory.file_format!r}", hint=f"known: {', '.join(_FORMATS)}")
    if inventory.format is ManifestFormat.CSV and "key" not in positions(inventory.columns):
        raise InvalidRequest(f"{name}: its fileSchema {inventory.file_schema!r} has no Key", hint=hint)
    return inventory


class InventoryFiles(Protocol):
    """The place of an inventory's files."""

    name: str  #: of the manifest.json, for messages

    def read_manifest(self, etag: str | None = None) -> tuple[Inventory, str]:
        """Read the manifest.json; return it with its ETag, which must be `etag` if given.

        Raises `InvalidRequest`, `ConfigurationError`, `Unavailable`.
        """

    def check(self, inventory: Inventory) -> None:
        """Look the data files up. Raises `InvalidRequest` for the first that does not exist."""

    def copy(self, inventory: Inventory, data_file: InventoryFile, target: BinaryIO) -> Iterator[None]:
        """Copy a data file, which is then at its beginning, and check its MD5; yields now and then."""


class InventorySource:
    """The latest versions in an inventory.

    The cursor: ETag of the manifest.json, number of the data file, and of the rows read of it: `9f86d0…:3:120000`.
    `bucket` and `prefix`: all others are passed over; a bucket of "" stands for the one of the inventory.
    """

    def __init__(self, files: InventoryFiles, bucket: str = "", prefix: str = "") -> None:
        self._files, self._bucket, self._prefix = files, bucket, prefix

    def pages(self, cursor: str | None = None) -> Iterator[SourcePage]:
        """See `Source.pages`."""
        etag, first, skip = (cursor or "::").rsplit(":", 2)
        inventory, etag = self._files.read_manifest(etag or None)
        if self._bucket and inventory.source_bucket != self._bucket:
            raise InvalidRequest(
                f"{self._files.name} is an inventory of bucket {inventory.source_bucket}, not of {self._bucket}",
                hint="name the inventory of this bucket",
            )
        if cursor is None:
            self._files.check(inventory)
        for index in range(int(first or 0), len(inventory.files)):
            for page in self._file_pages(inventory, index, int(skip or 0)):
                yield replace(page, cursor=f"{etag}:{index}:{page.cursor}")
            skip = ""

    def _file_pages(self, inventory: Inventory, index: int, skip: int) -> Iterator[SourcePage]:
        """Yield the pages of a data file; their cursor is the number of rows read of it."""
        data_file = inventory.files[index]
        make = ref_maker(inventory.source_bucket, url_encoded=inventory.format is ManifestFormat.CSV)
        with tempfile.TemporaryFile(prefix="dpiqa-") as file:
            for _ in self._files.copy(inventory, data_file, file):
                yield SourcePage(refs=(), cursor=str(skip))
            pages = read_rows(file, data_file.key, as_format=inventory.format, columns=inventory.columns, skip=skip)
            n_read = skip
            for rows in pages:
                n_read += len(rows)
                page = page_of(rows, make, str(n_read), self._prefix)
                if page.malformed and not page.refs and not page.passed_over:
                    raise InvalidRequest(f"{data_file.key} does not fit the inventory: {page.examples[0]}")
                yield page


class S3Inventory:
    """An inventory in S3."""

    def __init__(self, store: ObjectStore, address: S3Address) -> None:
        self._store, self._address = store, address
        self.name = str(address)

    def read_manifest(self, etag: str | None = None) -> tuple[Inventory, str]:
        """See `InventoryFiles.read_manifest`."""
        ref = look_up(self._store, self._address, etag)
        if (ref.size or 0) > MAX_MANIFEST_BYTES:
            raise InvalidRequest(f"{self.name} has {ref.size} bytes: too many for a manifest.json")
        with tempfile.TemporaryFile(prefix="dpiqa-") as file:
            for _ in download(self._store, ref, file):
                pass
            return parse_inventory(file.read(), self.name), ref.etag

    def check(self, inventory: Inventory) -> None:
        """See `InventoryFiles.check`."""
        for data_file in inventory.files:
            look_up(self._store, self._data(inventory, data_file))

    def copy(self, inventory: Inventory, data_file: InventoryFile, target: BinaryIO) -> Iterator[None]:
        """See `InventoryFiles.copy`."""
        ref = look_up(self._store, self._data(inventory, data_file))
        yield from download(self._store, ref, target, data_file.md5 or None)

    def _data(self, inventory: Inventory, data_file: InventoryFile) -> S3Address:
        return S3Address(inventory.destination_bucket or self._address.bucket, data_file.key)


class DiskInventory:
    """An inventory that was copied to this machine: its data files keep their names, in any folder around it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = str(path)

    def read_manifest(self, etag: str | None = None) -> tuple[Inventory, str]:
        """See `InventoryFiles.read_manifest`."""
        with _readable(self._path):
            data = self._path.read_bytes()
        digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
        if etag not in (None, digest):
            raise InvalidRequest(f"{self.name} changed while it was read", hint="begin again")
        return parse_inventory(data, self.name), digest

    def check(self, inventory: Inventory) -> None:
        """See `InventoryFiles.check`."""
        for data_file in inventory.files:
            self._find(data_file)

    def copy(self, inventory: Inventory, data_file: InventoryFile, target: BinaryIO) -> Iterator[None]:  # noqa: ARG002
        """See `InventoryFiles.copy`."""
        path, digest = self._find(data_file), hashlib.md5(usedforsecurity=False)
        with _readable(path), path.open("rb") as file:
            while part := file.read(1024 * 1024):
                target.write(part)
                digest.update(part)
                yield
        if data_file.md5 and digest.hexdigest() != data_file.md5.lower():
            raise InvalidRequest(f"{path} has the MD5 {digest.hexdigest()}, not {data_file.md5}", hint="copy it again")
        target.seek(0)

    def _find(self, data_file: InventoryFile) -> Path:
        name = data_file.key.rpartition("/")[2]
        folder = self._path.absolute().parent
        places = [folder / name, folder / "data" / name, folder.parent / "data" / name]
        places += [parent / data_file.key for parent in (folder, *folder.parents)]
        for place in places:
            if place.is_file():
                return place
        raise InvalidRequest(f"the data file {data_file.key} of {self.name} is missing", hint=f"copy it to {folder}")


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise NotFound(f"{path} does not exist", hint="check the path") from None
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {reason_of(error)}", hint="name the file") from None
