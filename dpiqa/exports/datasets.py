"""Datasets: Parquet files in folders that name the values of some columns, `bucket=photos/day=2026-01-31/`.

The layout is Hive's, which Spark, DuckDB, pandas and pyarrow read. Rows come in the order of time, so that the files of
a day are complete when the next day begins. Memory is bounded by `_WAITING_ROWS` however many files are open.
"""

import os
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import quote

from dpiqa.addresses import S3Address, is_s3, parse_s3
from dpiqa.errors import InvalidRequest
from dpiqa.exports.formats import Format, ParquetFile
from dpiqa.exports.schemas import Columns, Schema
from dpiqa.extras import require
from dpiqa.files import expanded
from dpiqa.settings import Settings

if TYPE_CHECKING:
    from dpiqa.objects.s3 import S3Store

DAY = "day"  #: the day (UTC) of `updated_at`
PARTITION_COLUMNS = ("bucket", DAY, "profile", "model", "stage", "status", "band")
SUCCESS = "_SUCCESS"  #: Spark's empty object that says that a dataset in S3 is complete
_NULL = "__HIVE_DEFAULT_PARTITION__"
_OPEN_FILES = 32
_WAITING_ROWS = 200_000  # of all open files together
_CHUNK = 1024 * 1024

Partition = tuple[str, ...]


def parse_partition_by(text: str) -> tuple[str, ...]:
    """Read `bucket,day`. Raises `InvalidRequest`."""
    names = tuple(name.strip() for name in text.split(","))
    unknown = [name for name in names if name not in PARTITION_COLUMNS]
    if unknown or len(set(names)) < len(names):
        raise InvalidRequest(f"cannot partition by {text!r}", hint=f"name some of {', '.join(PARTITION_COLUMNS)}")
    return names


def check_dataset(output: str) -> None:
    """Raise `InvalidRequest` for an output that is neither a new folder nor a prefix in S3."""
    require("pyarrow", "a Parquet file")
    if is_s3(output):
        parse_s3(output)
        return
    path = expanded(output)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InvalidRequest(f"{path} exists", hint="name a new folder")
    if not path.parent.is_dir():
        raise InvalidRequest(f"the folder {path.parent} does not exist", hint="create it first")


def save_dataset(
    batches: Iterable[Columns], schema: Schema, by: Sequence[str], output: str, settings: Settings
) -> None:
    """Write rows, ordered by `updated_at`, as Parquet files partitioned by some columns.

    A folder appears when it is complete. In S3 each object appears when it is complete and `_SUCCESS` when all are; on
    an error the objects written so far are deleted. Raises `InvalidRequest`, `StoreUnavailable`, `ConfigurationError`.
    """
    check_dataset(output)
    if is_s3(output):
        from dpiqa.objects.s3 import S3Store  # noqa: PLC0415 - boto3 takes 0.2 s that other outputs do not need

        with tempfile.TemporaryDirectory(prefix="dpiqa-dataset-") as folder:
            _upload_parts(batches, schema, by, parse_s3(output), S3Store.from_settings(settings), Path(folder))
        return
    path = expanded(output)
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    try:
        partial.mkdir()
        for _ in _write_parts(batches, schema, by, partial):
            pass
        partial.replace(path)
    except OSError as error:
        raise InvalidRequest(f"cannot write {path}: {error.strerror}", hint="choose another --output") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _upload_parts(
    batches: Iterable[Columns], schema: Schema, by: Sequence[str], to: S3Address, store: "S3Store", folder: Path
) -> None:
    """Upload each file as soon as it is complete, and delete it from the disk."""
    prefix = to.key if not to.key or to.key.endswith("/") else f"{to.key}/"
    written: list[str] = []
    try:
        for part in _write_parts(batches, schema, by, folder):
            key = f"{prefix}{part.relative_to(folder)}"
            with part.open("rb") as file:
                store.put(to.bucket, key, _chunks(file), media_type=Format.PARQUET.media_type)
            written.append(key)
            part.unlink()
        store.put(to.bucket, prefix + SUCCESS, (), media_type="application/octet-stream")
    except BaseException:
        for key in written:
            store.delete(to.bucket, key)
        raise


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk


def _write_parts(batches: Iterable[Columns], schema: Schema, by: Sequence[str], folder: Path) -> Iterator[Path]:
    """Write the rows into files below a folder; yield each file when it is complete."""
    parts: dict[Partition, _Part] = {}  # the one that was used last stands last
    n_files: Counter[Partition] = Counter()
    for columns in batches:
        for partition, rows in _grouped(columns, schema, by).items():
            part = parts.pop(partition, None)
            if part is None:
                if len(parts) == _OPEN_FILES:
                    yield parts.pop(next(iter(parts))).close()
                path = folder.joinpath(*map(_folder_name, by, partition), f"part-{n_files[partition]:05}.parquet")
                n_files[partition] += 1
                part = _Part(path, ParquetFile(schema, without=[name for name in by if name != DAY]))
            parts[partition] = part
            part.rows.add(rows)
        while sum(part.rows.n_waiting for part in parts.values()) > _WAITING_ROWS:
            max(parts.values(), key=lambda part: part.rows.n_waiting).flush()
    for part in parts.values():
        yield part.close()


class _Part:
    """One open file."""

    def __init__(self, path: Path, rows: ParquetFile) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.rows = path, rows
        self._file = path.open("wb")

    def flush(self) -> None:
        """Write the waiting rows as a row group."""
        self.rows.end_row_group()
        self._file.write(self.rows.drain())

    def close(self) -> Path:
        """Complete the file; return its path."""
        with self._file:
            self._file.write(self.rows.finish())
        return self.path


def _grouped(columns: Columns, schema: Schema, by: Sequence[str]) -> dict[Partition, Columns]:
    """Split rows by their partition, in their order."""
    sources = [
        [at.astimezone(UTC).date().isoformat() for at in columns[schema.names.index("updated_at")]]
        if name == DAY
        else [_NULL if value is None else str(value) for value in columns[schema.names.index(name)]]
        for name in by
    ]
    rows_of: dict[Partition, list[int]] = defaultdict(list)
    for row, partition in enumerate(zip(*sources, strict=True)):
        rows_of[partition].append(row)
    return {partition: [[values[row] for row in rows] for values in columns] for partition, rows in rows_of.items()}


def _folder_name(name: str, value: str) -> str:
    return f"{name}={quote(value, safe='')}"
