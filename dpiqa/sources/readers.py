"""Readers of the formats of manifests: rows with their numbers, from an open file, with flat memory.

Each reader yields lists of `(number, values)`: where the row is (its line, or its number in a Parquet or ORC file), and
the values of `FIELDS` in order. A row that cannot be read has a text instead of the values, which says why.
"""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any, BinaryIO

from dpiqa.errors import InvalidRequest
from dpiqa.extras import required_for
from dpiqa.sources.base import PAGE_ROWS
from dpiqa.sources.rows import FIELDS, positions, values_of
from dpiqa.sources.spec import ManifestFormat
from dpiqa.text import reason_of, shorten

Row = tuple[int, Sequence[Any] | str]  #: its number, and its values or what is wrong with it
_BUFFER_BYTES = 256 * 1024
_MAX_LINE = 64 * 1024  #: characters; a key has at most 1,024 bytes
_GZIP, _ZSTD, _PARQUET, _ORC, _ZIP = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1", b"ORC", b"PK\x03\x04"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_FORMATS = {
    "csv": ManifestFormat.CSV, "tsv": ManifestFormat.CSV, "jsonl": ManifestFormat.NDJSON,
    "ndjson": ManifestFormat.NDJSON, "json": ManifestFormat.NDJSON, "manifest": ManifestFormat.NDJSON,
    "txt": ManifestFormat.LINES, "lst": ManifestFormat.LINES, "list": ManifestFormat.LINES,
    "parquet": ManifestFormat.PARQUET, "orc": ManifestFormat.ORC,
}  # fmt: skip


def read_rows(
    file: BinaryIO, name: str, *, as_format: ManifestFormat | None = None, columns: Sequence[str] = (), skip: int = 0
) -> Iterator[list[Row]]:
    """Yield the rows of a manifest, in lists of at most `PAGE_ROWS`.

    Args:
        file: open at its beginning; Parquet and ORC must be seekable.
        name: of the file, for messages; its extension says the format where `as_format` does not.
        as_format: otherwise found by magic bytes, by the name, and by the first line.
        columns: names of the columns of a CSV without a header.
        skip: rows that were read before; each list of skipped rows is empty.

    Raises `InvalidRequest` where the file is not what its format says, is damaged or ends early.
    """
    with _our_errors(name):
        file = io.BufferedReader(_Borrowed(file), _BUFFER_BYTES)
        head = file.peek(64)[:64]
        if head.startswith(_ZIP):
            raise InvalidRequest(f"{name} is a ZIP file or a spreadsheet", hint="save it as CSV in UTF-8")
        binary = {_PARQUET: ManifestFormat.PARQUET, _ORC: ManifestFormat.ORC}
        found = next((kind for magic, kind in binary.items() if head.startswith(magic)), None)
        if found is None and as_format in binary.values():
            raise InvalidRequest(f"{name} is not {as_format}: it does not begin with its signature")
        if found is not None and as_format not in (None, found):
            raise InvalidRequest(f"{name} is {found}, not {as_format}", hint="leave --format out: it is found")
        if found is ManifestFormat.PARQUET:
            yield from _parquet(file, name, skip)
        elif found is ManifestFormat.ORC:
            yield from _orc(file, name, skip)
        else:
            yield from _text(_decompressed(head, file), name, as_format, columns, skip)


class _Borrowed(io.RawIOBase):
    """A file that is not closed with its reader: its owner may read it again."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return whether the file can be read from its end."""
        return self._file.seekable()

    def readinto(self, buffer: Any) -> int:
        """Read up to the length of `buffer`."""
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to another place."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the place."""
        return self._file.tell()


def _decompressed(head: bytes, file: BinaryIO) -> BinaryIO:
    if head.startswith(_GZIP):
        return gzip.open(file)  # type: ignore[return-value]
    if head.startswith(_ZSTD):
        with required_for("a manifest compressed with zstd"):
            import pyarrow as pa  # noqa: PLC0415
        return io.BufferedReader(_Native(pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd")))
    return file


class _Native(io.RawIOBase):
    """A pyarrow stream as a file of the standard library."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read up to the length of `buffer`."""
        data: bytes = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


@contextmanager
def _our_errors(name: str) -> Iterator[None]:
    """Turn errors of the standard library and of pyarrow (which are ValueError and OSError) into ours."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InvalidRequest(f"{name} is damaged or ends early: {reason_of(error)}", hint="copy it again") from None
    except csv.Error as error:
        raise InvalidRequest(f"{name} is not CSV: {reason_of(error)}", hint="is a quotation mark not closed?") from None
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"{name} cannot be read: {reason_of(error)}", hint="is it complete?") from None


# Text


def _text(
    file: BinaryIO, name: str, as_format: ManifestFormat | None, columns: Sequence[str], skip: int
) -> Iterator[list[Row]]:
    buffered = io.BufferedReader(file, _BUFFER_BYTES)  # type: ignore[type-var]
    if buffered.peek(2).startswith(_UTF16):
        raise InvalidRequest(f"{name} is UTF-16", hint="save it as UTF-8")
    text = io.TextIOWrapper(buffered, encoding="utf-8-sig", errors="surrogateescape", newline="")
    lines = _lines(text, name)
    first = next(lines, None)
    if first is None:
        return
    chosen = as_format or _format_of(name, first, columns)
    lines = chain([first], lines)
    if chosen is ManifestFormat.CSV:
        rows = _csv(lines, name, first, columns)
    elif chosen is ManifestFormat.NDJSON:
        rows = _ndjson(lines, name, first)
    else:
        nothing = (None,) * (len(FIELDS) - 1)
        rows = ((n, (key, *nothing)) for n, line in enumerate(lines, 1) if (key := line.rstrip("\r\n")))
    yield from _in_pages(rows, skip)


def _format_of(name: str, first: str, columns: Sequence[str]) -> ManifestFormat:
    parts = name.lower().rsplit("/", 1)[-1].split(".")
    extension = parts[-2] if len(parts) > 2 and parts[-1] in ("gz", "gzip", "zst", "zstd") else parts[-1]
    if columns:
        return ManifestFormat.CSV
    if extension in _FORMATS and len(parts) > 1:
        return _FORMATS[extension]
    if first.lstrip().startswith("{"):
        return ManifestFormat.NDJSON
    return ManifestFormat.CSV if _header(first) else ManifestFormat.LINES


def _lines(text: io.TextIOWrapper, name: str) -> Iterator[str]:
    """Yield lines with their ends. Raises `InvalidRequest` for a line that no manifest has."""
    while line := text.readline(_MAX_LINE):
        if len(line) == _MAX_LINE:
            raise InvalidRequest(f"{name} has a line of more than {_MAX_LINE} characters", hint="is it a manifest?")
        yield line


def _in_pages(rows: Iterator[Row], skip: int) -> Iterator[list[Row]]:
    while skip > 0:
        n_skipped = sum(1 for _ in islice(rows, min(skip, 20 * PAGE_ROWS)))
        if not n_skipped:
            return
        skip -= n_skipped
        yield []
    while page := list(islice(rows, PAGE_ROWS)):
        yield page


def _header(line: str) -> tuple[str, dict[str, int]] | None:
    """Return the delimiter and the columns of a first line that names a key."""
    for delimiter in (",", "\t", ";"):
        at = positions(next(csv.reader([line], delimiter=delimiter), []))
        if "key" in at:
            return delimiter, at
    return None


def _csv(lines: Iterator[str], name: str, first: str, columns: Sequence[str]) -> Iterator[Row]:
    header = None if columns else _header(first)
    delimiter = header[0] if header else "\t" if "\t" in first and "," not in first else ","
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    if header:
        at = header[1]
        next(reader)
    elif columns:
        at = positions(columns)
        if "key" not in at:
            raise InvalidRequest(f"--columns names no key: {', '.join(columns)}", hint="for example: bucket,key,etag")
    else:
        cells = next(csv.reader([first], delimiter=delimiter), [])
        if len(cells) > 1 and not cells[0].lower().startswith("s3://"):
            raise InvalidRequest(
                f"the first line of {name} names no key: {shorten(first.strip(), 80)}",
                hint="name its columns with --columns, for example --columns bucket,key,version_id",
            )
        at = {"key": 0}
    indexes = [at.get(field) for field in FIELDS]
    width = max(at.values()) + 1
    key_at = at["key"]
    for cells in reader:
        if len(cells) >= width:
            yield reader.line_num, [None if index is None else cells[index] for index in indexes]
        elif cells and len(cells) > key_at:  # the last columns may be left out
            yield reader.line_num, [None if i is None or i >= len(cells) else cells[i] for i in indexes]
        elif cells:
            yield reader.line_num, f"{len(cells)} columns instead of {width}"


def _ndjson(lines: Iterator[str], name: str, first: str) -> Iterator[Row]:
    if first.lstrip().startswith("["):
        raise InvalidRequest(
            f"{name} is one JSON array", hint="write one object per line: jq -c '.[]' FILE | dpiqa submit --list -"
        )
    known: dict[tuple[str, ...], list[str | None]] = {}
    for number, line in enumerate(lines, 1):
        if line.isspace():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield number, f"not JSON: {reason_of(error)}"
            continue
        yield number, values_of(record, known) if isinstance(record, dict) else "not a JSON object"


# Columns


def _parquet(file: BinaryIO, name: str, skip: int) -> Iterator[list[Row]]:
    with required_for("a Parquet manifest"):
        from pyarrow import parquet  # noqa: PLC0415
    source = parquet.ParquetFile(_seekable(file, name))
    chosen = _chosen(source.schema_arrow.names, name)
    group, number = 0, 0
    while group < source.num_row_groups and number + source.metadata.row_group(group).num_rows <= skip:
        number += source.metadata.row_group(group).num_rows
        group += 1
    groups = list(range(group, source.num_row_groups))
    batches = source.iter_batches(PAGE_ROWS, row_groups=groups, columns=[c for c in chosen if c]) if groups else ()
    yield from _column_rows(batches, chosen, number, skip)


def _orc(file: BinaryIO, name: str, skip: int) -> Iterator[list[Row]]:
    with required_for("an ORC manifest"):
        from pyarrow import orc  # noqa: PLC0415
    source = orc.ORCFile(_seekable(file, name))
    chosen = _chosen(source.schema.names, name)
    stripes = (source.read_stripe(i, columns=[c for c in chosen if c]) for i in range(source.nstripes))
    pages = (stripe.slice(at, PAGE_ROWS) for stripe in stripes for at in range(0, stripe.num_rows, PAGE_ROWS))
    yield from _column_rows(pages, chosen, 0, skip)


def _column_rows(batches: Any, chosen: Sequence[str | None], number: int, skip: int) -> Iterator[list[Row]]:
    """Yield the rows of record batches; `number`: rows before the first."""
    for batch in batches:
        if number + batch.num_rows <= skip:
            number += batch.num_rows
            yield []
            continue
        nothing = [None] * batch.num_rows
        values = [nothing if name is None else _values(batch.column(name)) for name in chosen]
        start = max(0, skip - number)
        yield list(zip(range(number + start + 1, number + batch.num_rows + 1), list(zip(*values))[start:]))  # noqa: B905
        number += batch.num_rows


def _values(column: Any) -> list[Any]:
    """Return a column as Python values; binary text as text, which it is in S3 Inventory."""
    values: list[Any] = column.to_pylist()
    if values and any(isinstance(value, bytes) for value in values):
        return [value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value for value in values]
    return values


def _chosen(names: Sequence[str], name: str) -> list[str | None]:
    at = positions(names)
    if "key" not in at:
        raise InvalidRequest(f"{name} has no column with keys: {shorten(', '.join(names), 200)}", hint="call it key")
    return [names[at[field]] if field in at else None for field in FIELDS]


def _seekable(file: BinaryIO, name: str) -> BinaryIO:
    if not file.seekable():
        raise InvalidRequest(f"{name} is not a file: Parquet and ORC are read from their end", hint="name a file")
    return file
