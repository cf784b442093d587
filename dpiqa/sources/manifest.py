"""One's own manifest as a source: CSV, JSON lines, Parquet, ORC or lines of keys; in S3, on disk or from a pipe."""

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import BinaryIO

from dpiqa.addresses import S3Address
from dpiqa.errors import ConfigurationError, ImageRejected, InvalidRequest, ObjectChanged, ObjectGone
from dpiqa.objects.store import ObjectStore
from dpiqa.sources.base import PassedOver, SourcePage
from dpiqa.sources.readers import Row, read_rows
from dpiqa.sources.rows import RefMaker, ref_maker
from dpiqa.sources.spec import SourceSpec
from dpiqa.types import ImageRef

_PART_BYTES = 8 * 1024 * 1024  #: of a download; between two parts the lister renews its lease
_EXAMPLES = 5  #: of malformed rows, per page
_TRUE, _FALSE = (True, "true", "True", "TRUE", "1"), (False, "false", "False", "FALSE", "0")


class ManifestSource:
    """The rows of a manifest in S3, copied to a temporary file first.

    The cursor is the manifest's ETag and the number of rows read: `9f86d0…:120000`.
    """

    def __init__(self, store: ObjectStore, address: S3Address, spec: SourceSpec, bucket: str) -> None:
        self._store, self._address, self._spec, self._bucket = store, address, spec, bucket

    def pages(self, cursor: str | None = None) -> Iterator[SourcePage]:
        """See `Source.pages`."""
        etag, _, n_read = (cursor or "").rpartition(":")
        ref = look_up(self._store, self._address, etag or None)
        with tempfile.TemporaryFile(prefix="dpiqa-") as file:
            for _ in download(self._store, ref, file):
                yield SourcePage(refs=(), cursor=cursor)
            rows = FileSource(file, str(self._address), self._spec, self._bucket)
            for page in rows.pages(n_read or None):
                yield replace(page, cursor=page.cursor and f"{ref.etag}:{page.cursor}")


class FileSource:
    """The rows of an open file. The cursor is the number of rows read.

    `name`: of the file, for messages and for its format. `bucket`: of keys whose row names none.
    """

    def __init__(self, file: BinaryIO, name: str, spec: SourceSpec, bucket: str) -> None:
        self._file, self._name, self._spec = file, name, spec
        self._make = ref_maker(bucket, url_encoded=spec.url_encoded)

    def pages(self, cursor: str | None = None) -> Iterator[SourcePage]:
        """See `Source.pages`."""
        spec, n_read = self._spec, int(cursor or 0)
        if self._file.seekable():
            self._file.seek(0)
        for rows in read_rows(self._file, self._name, as_format=spec.format, columns=spec.columns, skip=n_read):
            n_read += len(rows)
            yield page_of(rows, self._make, str(n_read) if n_read else None)


def page_of(rows: Sequence[Row], make: RefMaker, cursor: str | None, prefix: str = "") -> SourcePage:
    """Make a page of rows. Passed over: old versions, delete markers and, with a prefix, what is not below it."""
    refs: list[ImageRef] = []
    passed_over: Counter[PassedOver] = Counter()
    examples: list[str] = []
    malformed = 0
    for number, values in rows:
        if isinstance(values, str):
            wrong = values
        elif values[6] in _FALSE:
            passed_over[PassedOver.OLD_VERSION] += 1
            continue
        elif values[7] in _TRUE:
            passed_over[PassedOver.DELETE_MARKER] += 1
            continue
        else:
            try:
                ref = make(*values[:6])
            except ValueError as error:
                wrong = str(error)
            else:
                if ref.key.startswith(prefix):
                    refs.append(ref)
                else:
                    passed_over[PassedOver.OTHER_PREFIX] += 1
                continue
        malformed += 1
        if len(examples) < _EXAMPLES:
            examples.append(f"row {number}: {wrong}")
    return SourcePage(refs=refs, cursor=cursor, passed_over=passed_over, malformed=malformed, examples=examples)


@contextmanager
def _as_manifest(address: S3Address) -> Iterator[None]:
    """Turn errors of an object into those of a manifest: they concern the whole job."""
    try:
        yield
    except ObjectGone:
        raise InvalidRequest(f"{address} does not exist", hint="check its spelling; keys are case-sensitive") from None
    except ObjectChanged:
        raise InvalidRequest(f"{address} changed while it was read", hint="submit it again") from None
    except ImageRejected as error:
        raise ConfigurationError(
            f"{address} cannot be read: {error.message}", hint="grant s3:GetObject on it"
        ) from None


def look_up(store: ObjectStore, address: S3Address, etag: str | None = None) -> ImageRef:
    """Return the object of a manifest. `etag`: it must still have.

    Raises `InvalidRequest` where it is gone or changed, `ConfigurationError` where it may not be read.
    """
    if not address.key or address.key.endswith("/"):
        raise InvalidRequest(
            f"{address} is a prefix, not a manifest", hint="name the file; submit a prefix without --list"
        )
    with _as_manifest(address):
        ref = store.head(address.bucket, address.key)
        if etag is not None and ref.etag != etag:
            raise ObjectChanged("", current=ref)
    return ref


def download(store: ObjectStore, ref: ImageRef, file: BinaryIO, md5: str | None = None) -> Iterator[None]:
    """Copy an object into a file, which is then at its beginning; yields after each part.

    Raises as `look_up`, and `InvalidRequest` where the bytes have another MD5 (hex) than `md5`.
    """
    address = S3Address(ref.bucket, ref.key)
    digest = hashlib.md5(usedforsecurity=False)
    for start in range(0, ref.size or 0, _PART_BYTES):
        with _as_manifest(address):
            part = store.read_part(ref, start, _PART_BYTES)
        file.write(part)
        digest.update(part)
        yield
    if md5 is not None and digest.hexdigest() != md5.lower():
        raise InvalidRequest(f"{address} has the MD5 {digest.hexdigest()}, not {md5}", hint="the inventory is damaged")
    file.seek(0)
