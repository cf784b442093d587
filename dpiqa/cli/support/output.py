"""Output of rows: a table, a JSON array, or an export. Rows stream, so that memory does not grow with their number."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, islice
from typing import Any, TypeVar

from dpiqa.cli.support import console
from dpiqa.errors import InvalidRequest
from dpiqa.exports.datasets import check_dataset, parse_partition_by, save_dataset
from dpiqa.exports.destinations import STDOUT, check_output, save
from dpiqa.exports.formats import Format, encode
from dpiqa.exports.schemas import Columns, Schema
from dpiqa.settings import Settings
from dpiqa.text import iso_utc

T = TypeVar("T")
#: Column names of a table on the terminal, and the function that makes a line of cells from a row.
TableLayout = tuple[Sequence[str], Callable[[dict[str, Any]], Sequence[Any]]]
TABLE_ROWS = 20  #: rows of a table unless `--limit` is given; JSON and exports hold all rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """The way that a command shows its rows: as its options `--json`, `--output`, `--format`, `--limit` ask."""

    as_json: bool = False
    to: str | None = None  #: file, `-`, or s3://bucket/key; None: the terminal
    format: Format | None = None  #: of the export
    partition_by: tuple[str, ...] = ()
    limit: int | None = None

    @classmethod
    def parse(
        cls,
        *,
        as_json: bool,
        output: str | None,
        format: Format | None = None,  # noqa: A002 - its name
        partition_by: str | None = None,
        limit: int | None = None,
    ) -> "Output":
        """Check the options before any work is done. Raises `InvalidRequest`, `ConfigurationError`."""
        if output is None:
            if format or partition_by:
                raise InvalidRequest("--format and --partition-by need --output", hint="name a file, or - for stdout")
            return cls(as_json=as_json, limit=limit)
        if output == STDOUT and as_json:
            raise InvalidRequest("--json and --output - both write to stdout", hint="pass --format jsonl instead")
        if partition_by is None:
            return cls(as_json=as_json, to=output, format=check_output(output, format), limit=limit)
        if output == STDOUT or format not in (None, Format.PARQUET):
            raise InvalidRequest("a partitioned dataset is a folder of Parquet files", hint="name a new folder")
        by = parse_partition_by(partition_by)
        check_dataset(output)
        return cls(as_json=as_json, to=output, format=Format.PARQUET, partition_by=by, limit=limit)

    @property
    def n_rows(self) -> int | None:
        """Rows to read, None for all: a table reads one more, to tell whether there are more."""
        return self.limit if self.as_json or self.to else (self.limit or TABLE_ROWS) + 1

    def write(self, schema: Schema, batches: Iterator[Columns], layout: TableLayout, settings: Settings) -> None:
        """Write rows, in batches of the schema. Raises as `save` and `save_dataset`, and whatever `batches` raises."""
        if self.to is not None:
            self.export(schema, batches, settings)
        elif self.as_json:
            console.print_json_array(schema.id, rows_of(schema, batches))
        else:
            self._print_table(list(islice(rows_of(schema, batches, iso=False), self.n_rows)), layout)

    def export(self, schema: Schema, batches: Iterator[Columns], settings: Settings) -> None:
        """Write the rows to the output, and say how many on stderr."""
        if self.to is None or self.format is None:
            raise ValueError("no output was named")
        n_rows = 0

        def counted() -> Iterator[Columns]:
            nonlocal n_rows
            for columns in batches:
                n_rows += len(columns[0])
                yield columns

        if self.partition_by:
            save_dataset(counted(), schema, self.partition_by, self.to, settings)
        else:
            save(encode(self.format, schema, counted()), self.to, settings, self.format.media_type)
        console.note(f"{n_rows} rows in {'stdout' if self.to == STDOUT else self.to}")
        if self.as_json:
            console.print_json("export@1", {"output": self.to, "rows": n_rows, "schema": schema.id})

    def _print_table(self, rows: list[dict[str, Any]], layout: TableLayout) -> None:
        n_shown = self.limit or TABLE_ROWS
        if not rows:
            console.note("none found")
            return
        names, cells = layout
        console.table(names, map(cells, rows[:n_shown]))
        if len(rows) > n_shown:
            console.note(f"the first {n_shown}; there are more: --limit, --json or --output shows them")


def rows_of(schema: Schema, batches: Iterable[Columns], *, iso: bool = True) -> Iterator[dict[str, Any]]:
    """Yield rows one by one. `iso`: times as JSON lines write them."""
    for row in chain.from_iterable(zip(*columns, strict=True) for columns in batches):
        values = [iso_utc(value) if iso and isinstance(value, datetime) else value for value in row]
        yield dict(zip(schema.names, values, strict=True))
