"""The speed of reading manifests: rows per second and peak memory, by format, without a database.

python benchmarks/sources.py --rows 1000000 --json figures.json

Each file has a bucket, a key, a size, a time and an ETag per row, and is read in a process of its own.
"""

import argparse
import csv
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
from machine import describe
from pyarrow import orc, parquet

from dpiqa.sources.manifest import FileSource
from dpiqa.sources.spec import SourceSpec

CHUNK = 100_000  #: rows that are made at once
COLUMNS = ("bucket", "key", "size", "last_modified", "etag")


def rows(start: int, stop: int) -> list[tuple[Any, ...]]:
    return [
        ("archive", f"2026/{n % 365:03}/photo-{n:09}.jpg", 3_000_000 + n, "2026-01-01T00:00:00Z", f"{n * 7919:032x}")
        for n in range(start, stop)
    ]


def write(path: Path, n_rows: int) -> None:
    chunks = (rows(start, min(start + CHUNK, n_rows)) for start in range(0, n_rows, CHUNK))
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for chunk in chunks:
                writer.writerows(chunk)
    elif path.suffix == ".jsonl":
        with path.open("w") as file:
            for chunk in chunks:
                file.writelines(json.dumps(dict(zip(COLUMNS, row, strict=True))) + "\n" for row in chunk)
    else:
        tables = (pa.table(dict(zip(COLUMNS, map(list, zip(*chunk, strict=True)), strict=True))) for chunk in chunks)
        first = next(tables)
        maker = parquet.ParquetWriter(path, first.schema) if path.suffix == ".parquet" else orc.ORCWriter(str(path))
        with maker as writer:
            for table in (first, *tables):
                writer.write(table)


def read(path: Path) -> dict[str, float]:
    """Read a file; return its rows, processor seconds and peak memory in bytes."""
    started, n_rows = time.process_time(), 0
    with path.open("rb") as file:
        for page in FileSource(file, path.name, SourceSpec(), "").pages():
            n_rows += len(page.refs)
    seconds = time.process_time() - started
    return {"rows": n_rows, "seconds": seconds, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=300_000, help="rows of each file")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        print(json.dumps(read(arguments.read)))
        return
    figures: dict[str, Any] = {"machine": describe(), "formats": {}}
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("csv", "jsonl", "parquet", "orc"):
            path = Path(folder) / f"manifest.{suffix}"
            write(path, arguments.rows)
            answer = subprocess.run([sys.executable, __file__, "--read", path], check=True, capture_output=True)
            figure = json.loads(answer.stdout)
            figures["formats"][suffix] = figure
            rate = figure["rows"] / figure["seconds"]
            print(f"{suffix:8} {rate:>10,.0f} rows per processor second, peak {figure['peak'] / 2**20:.0f} MiB")
            path.unlink()
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
