"""Files of `dpiqa score` that grow while rows arrive, and that a later run goes on with.

CSV and JSON lines are appended to: a killed process leaves a file of whole rows, but for the last one, which is cut off
when the file is opened again. A Parquet file is readable only when it is complete: its rows are appended to a file of
JSON lines beside it, of which it is made at the end, or by the next run. A row that a later run replaces stays until
that run ends. Memory does not grow with the rows: those that are known are kept in a temporary database on the disk.
"""

import csv
import fcntl
import io
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from dpiqa.errors import InvalidRequest
from dpiqa.exports.formats import Format, encode, guarded
from dpiqa.exports.schemas import Column, Columns, Schema
from dpiqa.extras import required_for
from dpiqa.files import replace_file
from dpiqa.text import iso_utc

Row = dict[str, Any]  #: values by column; times are `datetime`
_BATCH = 10_000
_OTHER_COLUMNS_HINT = "name the same models, and --details or not, as before; another --output; or --overwrite"


class GrowingFile:
    """A file of rows of one schema, which only this process writes to. A context manager, which closes it."""

    def __init__(self, path: Path, format: Format, schema: Schema, *, resume: bool) -> None:  # noqa: A002 - its name
        """Open a new file, or with `resume` one that may exist: then `find` knows its rows.

        Raises `InvalidRequest` for a file that has other columns, cannot be written, or is being written by another
        process.
        """
        self.path, self.format, self.schema = path, format, schema
        self.n_added = self.n_cut = 0  #: rows added by this process; bytes of a row that was not whole
        self._grown = unfinished_path(path) if format is Format.PARQUET else path
        self._grown_format = Format.JSONL if format is Format.PARQUET else format
        self._known = _Known() if resume else None
        self._header = b"".join(encode(self._grown_format, schema, []))
        with _said(self._grown):
            self._file: BinaryIO = os.fdopen(os.open(self._grown, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
            self._lock()
            if not resume:
                self._file.truncate()
                if format is Format.PARQUET:
                    path.unlink(missing_ok=True)
            self._read_known()

    def __enter__(self) -> "GrowingFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if self._known is not None:
            self._known.close()

    def find(self, address: Sequence[str]) -> "KnownRow | None":
        """Return the last row of `path`, or of bucket and key."""
        return None if self._known is None else self._known.find(self._address(address))

    def scorer_ids(self) -> frozenset[str]:
        """Return the scorers of the rows of earlier runs."""
        return frozenset() if self._known is None else self._known.scorer_ids()

    def add(self, rows: Sequence[Row]) -> None:
        """Append rows; they are with the operating system at the end. Raises `InvalidRequest`."""
        if not rows:
            return
        data = b"".join(encode(self._grown_format, self.schema, [self.schema.columns_of(rows)]))
        with _said(self._grown):
            self._file.write(data.removeprefix(self._header))
            self._file.flush()
        self.n_added += len(rows)
        if self._known is not None:
            self._known.add(self._summary(row) for row in rows)

    def finish(self) -> None:
        """Make the file whole: without rows that were replaced, and on the disk. Raises `InvalidRequest`."""
        with _said(self.path):
            os.fsync(self._file.fileno())
            if self.format is Format.PARQUET or (self._known is not None and self._known.has_replaced()):
                chunks = encode(self.format, self.schema, self._batches())
                replace_file(self.path, lambda partial: _fill(partial, chunks))
            if self.format is Format.PARQUET:
                self._grown.unlink()

    def _batches(self) -> Iterator[Columns]:
        rows = self.rows()
        while batch := list(islice(rows, _BATCH)):
            yield self.schema.columns_of(batch)

    def rows(self) -> Iterator[Row]:
        """Yield the rows, but for those that were replaced."""
        if self._known is None:
            yield from self._all_rows()
            return
        for number, row in enumerate(self._all_rows()):
            if self._known.is_last(self._summary(row)[0], number):
                yield row

    def _all_rows(self) -> Iterator[Row]:
        if self.format is Format.PARQUET and self.path.exists():
            yield from read_rows(self.path, Format.PARQUET, self.schema)
        yield from read_rows(self._grown, self._grown_format, self.schema)

    def _lock(self) -> None:
        """Keep other processes out until this one ends. Raises `InvalidRequest`."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InvalidRequest(f"another process writes to {self.path}", hint="wait for it, or stop it") from None
        except OSError:  # a file system without locks
            pass

    def _read_known(self) -> None:
        """Check the columns, note the rows, and cut off what follows the last whole row."""
        if self._known is None:
            self._file.write(self._header)
            self._file.flush()
            return
        if self.format is Format.PARQUET and self.path.exists():
            self._known.add(map(self._summary, read_rows(self.path, Format.PARQUET, self.schema)))
        rows = _WholeRows(self._grown, self._grown_format, self.schema)
        self._known.add(map(self._summary, rows))
        self._file.seek(0, io.SEEK_END)
        self.n_cut = self._file.tell() - rows.end
        self._file.truncate(rows.end)
        self._file.seek(0, io.SEEK_END)
        if rows.end == 0:
            self._file.write(self._header)
            self._file.flush()

    def _summary(self, row: Row) -> tuple[str, str, str, bool, str]:
        names = ("path",) if "path" in row else ("bucket", "key")
        scores = [value for name, value in row.items() if name == "score" or name.endswith(".score")]
        ids = [str(value) for name, value in row.items() if value and (name.rpartition(".")[2] == "scorer_id")]
        return (
            self._address([row[name] for name in names]),
            row.get("etag") or "",
            stamp(row.get("size"), row.get("modified")),
            any(score is None for score in scores),
            "\n".join(ids),
        )

    def _address(self, parts: Sequence[str]) -> str:
        """Return an address as the file holds it: CSV guards formulas, and no file holds bytes that are not UTF-8."""
        text = "\0".join(guarded(part) if self.format is Format.CSV else part for part in parts)
        return text.encode("utf-8", "backslashreplace").decode()


def unfinished_path(path: Path) -> Path:
    """Return the file beside a Parquet file that holds the rows of a run that has not ended."""
    return path.with_name(f"{path.name}.unfinished.jsonl")


def stamp(size: int | None, modified: datetime | None) -> str:
    """Return the text by which bytes count as unchanged where there is no ETag; empty where nothing is known."""
    return "" if size is None or modified is None else f"{size} {iso_utc(modified)}"


class KnownRow:
    """The part of a row that says whether it still holds."""

    def __init__(self, etag: str, at: str, is_failed: bool) -> None:
        self._etag, self._stamp = etag, at
        self.is_failed = is_failed  #: no score, of one model or more

    def fits(self, etag: str, at: str) -> bool:
        """Return whether the bytes are those of the row: the same ETag, or else the same size and time.

        An image of which neither is known counts as unchanged.
        """
        if etag and self._etag:
            return etag == self._etag
        return at == self._stamp if at else not etag


class _Known:
    """The rows of a file, in a temporary database on the disk, which goes with this process."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", check_same_thread=False)
        self._db.execute("CREATE TABLE known (address TEXT PRIMARY KEY, etag, stamp, failed, ids, n) WITHOUT ROWID")
        self._n_rows = 0

    def add(self, summaries: Iterable[tuple[str, str, str, bool, str]]) -> None:
        numbered = ((*summary, number) for number, summary in enumerate(summaries, self._n_rows))
        with self._db:
            for row in numbered:
                self._db.execute("INSERT OR REPLACE INTO known VALUES (?, ?, ?, ?, ?, ?)", row)
                self._n_rows += 1

    def find(self, address: str) -> KnownRow | None:
        row = self._db.execute("SELECT etag, stamp, failed FROM known WHERE address = ?", (address,)).fetchone()
        return None if row is None else KnownRow(row[0], row[1], bool(row[2]))

    def scorer_ids(self) -> frozenset[str]:
        rows = self._db.execute("SELECT DISTINCT ids FROM known").fetchall()
        return frozenset(filter(None, (one for (ids,) in rows for one in ids.split("\n"))))

    def is_last(self, address: str, number: int) -> bool:
        row = self._db.execute("SELECT n FROM known WHERE address = ?", (address,)).fetchone()
        return row is not None and row[0] == number

    def has_replaced(self) -> bool:
        (n_addresses,) = self._db.execute("SELECT count(*) FROM known").fetchone()
        return bool(n_addresses < self._n_rows)

    def close(self) -> None:
        self._db.close()


class _WholeRows:
    """The rows of a CSV or of JSON lines up to the first that is not whole; `end`: the bytes that they take."""

    def __init__(self, path: Path, format: Format, schema: Schema) -> None:  # noqa: A002 - its name
        self._path, self._format, self._schema = path, format, schema
        self.end = 0

    def __iter__(self) -> Iterator[Row]:
        with self._path.open("rb") as file:
            texts = _csv_records(file) if self._format is Format.CSV else iter(file)
            if self._format is Format.CSV:
                header = next(texts, b"")
                if not header.endswith(b"\n"):
                    if header:
                        self._refuse(header)
                    return
                if _cells(header) != list(self._schema.names):
                    self._refuse(header)
                self.end = len(header)
            for text in texts:
                row = self._parse(text) if text.endswith(b"\n") else None
                if row is None:
                    return
                self.end += len(text)
                yield row

    def _parse(self, text: bytes) -> Row | None:
        """Return a row; None for what is not one: the machine may have ended in the middle of it."""
        if self._format is Format.CSV:
            cells = _cells(text)
            if len(cells) != len(self._schema.columns):
                return None
            with suppress(ValueError):
                return {c.name: _of_csv(c, cell) for c, cell in zip(self._schema.columns, cells, strict=True)}
            return None
        try:
            values = json.loads(text)
        except ValueError:
            return None
        if not isinstance(values, dict) or set(values) != set(self._schema.names):
            self._refuse(text)
        return {column.name: _of_json(column, values[column.name]) for column in self._schema.columns}

    def _refuse(self, text: bytes) -> None:
        raise InvalidRequest(
            f"{self._path} has other columns than this command writes: it begins {text[:40]!r}...",
            hint=_OTHER_COLUMNS_HINT,
        )


def read_rows(path: Path, format: Format, schema: Schema) -> Iterator[Row]:  # noqa: A002 - its name
    """Yield the whole rows of a file. Raises `InvalidRequest` for other columns."""
    if format is not Format.PARQUET:
        yield from _WholeRows(path, format, schema)
        return
    with required_for("a Parquet file"):
        import pyarrow as pa  # noqa: PLC0415 - an extra
        import pyarrow.parquet as pq  # noqa: PLC0415 - an extra
    try:
        with pq.ParquetFile(path) as file:
            if file.schema_arrow.names != list(schema.names):
                raise InvalidRequest(f"{path} has other columns than this command writes", hint=_OTHER_COLUMNS_HINT)
            for batch in file.iter_batches(_BATCH):
                yield from batch.to_pylist()
    except pa.ArrowException as error:
        raise InvalidRequest(f"{path} is not a whole Parquet file: {error}", hint=_OTHER_COLUMNS_HINT) from None


def _csv_records(file: BinaryIO) -> Iterator[bytes]:
    """Yield the records of a CSV: lines, joined where a cell in quotes goes on."""
    record = b""
    for line in file:
        record += line
        if record.count(b'"') % 2 == 0:
            yield record
            record = b""
    if record:
        yield record


def _cells(record: bytes) -> list[str]:
    with suppress(csv.Error, UnicodeDecodeError, StopIteration):
        return next(csv.reader(io.StringIO(record.decode("utf-8"), newline=""), strict=True))
    return []


def _of_csv(column: Column, cell: str) -> Any:
    if column.nullable and not cell:
        return None
    if column.kind in (int, float):
        return column.kind(cell)
    return datetime.fromisoformat(cell) if column.kind is datetime else cell


def _of_json(column: Column, value: Any) -> Any:
    return datetime.fromisoformat(value) if column.kind is datetime and isinstance(value, str) else value


def _fill(path: Path, chunks: Iterable[bytes]) -> None:
    with path.open("wb") as file:
        file.writelines(chunks)


@contextmanager
def _said(path: Path) -> Iterator[None]:
    """Raise an `OSError` of the block as `InvalidRequest` about the path."""
    try:
        yield
    except OSError as error:
        raise InvalidRequest(f"cannot write {path}: {error.strerror}", hint="choose another --output") from error
