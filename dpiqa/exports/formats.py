"""Formats of exported rows: CSV (RFC 4180), JSON lines and Parquet, as chunks of bytes made while rows arrive.

Memory is bounded by one batch of rows, for Parquet by one row group, however many rows there are.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import PurePath
from typing import Any

from dpiqa.errors import InvalidRequest
from dpiqa.exports.schemas import Column, Columns, Schema
from dpiqa.extras import required_for
from dpiqa.text import iso_utc

ROW_GROUP = 100_000  #: rows of a Parquet row group, except of the last one
#: Parquet metadata: the schema of the rows, and its columns that are in the path instead of in the file.
SCHEMA_KEY, VERSION_KEY, PARTITION_KEY = "dpiqa.schema", "dpiqa.schema_version", "dpiqa.partition_by"
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_JSON = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(", ", ": "))


class Format(StrEnum):
    """Format of exported rows."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"

    @property
    def media_type(self) -> str:
        """The media type of a response."""
        return _MEDIA_TYPES[self]

    @classmethod
    def of_name(cls, name: str) -> "Format":
        """Return the format that a file or object name ends in. Raises `InvalidRequest`."""
        try:
            return cls(PurePath(name).suffix.lower().removeprefix("."))
        except ValueError:
            endings = ", ".join(f".{member}" for member in cls)
            raise InvalidRequest(
                f"cannot tell a format from the name {PurePath(name).name!r}",
                hint=f"end the name in {endings}, or pass --format",
            ) from None


_MEDIA_TYPES = {
    Format.CSV: "text/csv; charset=utf-8; header=present",
    Format.JSONL: "application/x-ndjson",
    Format.PARQUET: "application/vnd.apache.parquet",
}


def encode(format: Format, schema: Schema, batches: Iterable[Columns]) -> Iterator[bytes]:  # noqa: A002 - its name
    """Yield the bytes of a file with these rows; without rows a valid file without rows.

    Raises whatever `batches` raises; what was yielded until then is not a whole file. Raises `ConfigurationError`
    where a library for Parquet is missing.
    """
    return _ENCODERS[format](schema, batches)


def guarded(text: str) -> str:
    """Return a text cell that no spreadsheet takes for a formula: a leading `= + - @`, tab or CR gets an '."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _encode_csv(schema: Schema, batches: Iterable[Columns]) -> Iterator[bytes]:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    converters = [_csv_converter(column) for column in schema.columns]
    writer.writerow(schema.names)
    yield _drain(buffer)
    for columns in batches:
        cells = [list(map(convert, values)) for convert, values in zip(converters, columns, strict=True)]
        writer.writerows(zip(*cells, strict=True))
        yield _drain(buffer)


def _drain(buffer: io.StringIO) -> bytes:
    """Empty the buffer. A file name may hold bytes other than UTF-8."""
    data = buffer.getvalue().encode("utf-8", "backslashreplace")
    buffer.seek(0)
    buffer.truncate()
    return data


def _csv_converter(column: Column) -> Callable[[Any], Any]:
    """Return the function from a value to a cell: empty for None, numbers in full precision."""
    if column.kind is datetime:
        return lambda value: "" if value is None else iso_utc(value)
    if column.kind is bool:
        return lambda value: "" if value is None else "true" if value else "false"
    if column.kind is str:
        return lambda value: "" if value is None else guarded(str(value))
    return lambda value: value  # the csv module writes numbers by `repr` and None as nothing


def _encode_jsonl(schema: Schema, batches: Iterable[Columns]) -> Iterator[bytes]:
    names, write = schema.names, _JSON.encode
    is_time = [column.kind is datetime for column in schema.columns]
    for columns in batches:
        values = [
            [value and iso_utc(value) for value in column] if time else column
            for time, column in zip(is_time, columns, strict=True)
        ]
        lines = [write(dict(zip(names, row, strict=True))) for row in zip(*values, strict=True)]
        yield ("\n".join(lines) + "\n").encode("ascii") if lines else b""


def _encode_parquet(schema: Schema, batches: Iterable[Columns]) -> Iterator[bytes]:
    file = ParquetFile(schema)
    for columns in batches:
        file.add(columns)
        if file.n_waiting >= ROW_GROUP:
            file.end_row_group()
        yield file.drain()
    yield file.finish()


class ParquetFile:
    """A Parquet file in the making: rows go in, bytes come out."""

    def __init__(self, schema: Schema, without: Sequence[str] = ()) -> None:
        """`without`: columns that the file leaves out, because its path names their values.

        Raises `ConfigurationError` where pyarrow is missing.
        """
        with required_for("a Parquet file"):
            import pyarrow as pa  # noqa: PLC0415 - an extra
            import pyarrow.parquet as pq  # noqa: PLC0415 - an extra
        self._pa, self._sink, self._waiting = pa, _Sink(), list[Any]()
        self._kept = [index for index, name in enumerate(schema.names) if name not in without]
        whole = arrow_schema_of(schema)
        metadata = whole.metadata | ({PARTITION_KEY: ",".join(without)} if without else {})
        self._schema = pa.schema([whole.field(index) for index in self._kept], metadata=metadata)
        self._writer = pq.ParquetWriter(self._sink, self._schema, compression="zstd")

    @property
    def n_waiting(self) -> int:
        """Rows that are not in a row group yet."""
        return sum(batch.num_rows for batch in self._waiting)

    def add(self, columns: Columns) -> None:
        """Add rows to the next row group."""
        arrays = [
            _arrow_array(self._pa, columns[index], field.type)
            for index, field in zip(self._kept, self._schema, strict=True)
        ]
        self._waiting.append(self._pa.RecordBatch.from_arrays(arrays, schema=self._schema))

    def end_row_group(self) -> None:
        """Encode the waiting rows as a row group."""
        if self._waiting:
            self._writer.write_table(self._pa.Table.from_batches(self._waiting, self._schema))
            self._waiting.clear()

    def drain(self) -> bytes:
        """Return the bytes made since the last call."""
        return self._sink.drain()

    def finish(self) -> bytes:
        """Return the last bytes; the file is then complete."""
        self.end_row_group()
        self._writer.close()
        return self._sink.drain()


def arrow_schema_of(schema: Schema) -> Any:
    """Return a schema as pyarrow's, with its name and version in the metadata."""
    import pyarrow as pa  # noqa: PLC0415 - an extra

    types = {
        str: pa.string(),
        int: pa.int64(),
        float: pa.float64(),
        bool: pa.bool_(),
        datetime: pa.timestamp("us", "UTC"),
    }
    fields = [
        pa.field(column.name, types[column.kind], nullable=column.nullable, metadata={"meaning": column.meaning})
        for column in schema.columns
    ]
    return pa.schema(fields, metadata={SCHEMA_KEY: schema.name, VERSION_KEY: str(schema.version)})


def _arrow_array(pa: Any, values: Sequence[Any], kind: Any) -> Any:
    try:
        return pa.array(values, kind)
    except (pa.ArrowTypeError, UnicodeEncodeError):
        # ids and enums are not strings to Arrow, and a file name may hold bytes other than UTF-8
        texts = [None if v is None else str(v).encode("utf-8", "backslashreplace").decode() for v in values]
        return pa.array(texts, kind)


class _Sink(io.RawIOBase):
    """A file that keeps what is written to it until it is drained."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._n_bytes = 0

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any) -> int:
        """Keep a copy of the bytes."""
        self._chunks.append(bytes(data))
        self._n_bytes += len(data)
        return len(data)

    def tell(self) -> int:
        """Return the number of bytes written so far."""
        return self._n_bytes

    def drain(self) -> bytes:
        """Return what was written since the last call."""
        data = b"".join(self._chunks)
        self._chunks.clear()
        return data


_ENCODERS: dict[Format, Callable[[Schema, Iterable[Columns]], Iterator[bytes]]] = {
    Format.CSV: _encode_csv,
    Format.JSONL: _encode_jsonl,
    Format.PARQUET: _encode_parquet,
}
