"""Destinations of the rows of `dpiqa score`: a file that grows, a stream, the terminal; a spool if some are chosen."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path

from dpiqa.addresses import is_s3
from dpiqa.cli.scores.choosing import Choice
from dpiqa.cli.scores.run import Run
from dpiqa.cli.scores.summary import show_rows, show_several
from dpiqa.cli.support import console
from dpiqa.cli.support.output import Output
from dpiqa.errors import DpiqaError, InvalidRequest
from dpiqa.exports.destinations import STDOUT
from dpiqa.exports.formats import Format
from dpiqa.exports.growing import GrowingFile, Row, unfinished_path
from dpiqa.exports.schemas import Schema
from dpiqa.files import expanded
from dpiqa.text import iso_utc

_BLOCK = 1000
_HINT = "--resume goes on with it and scores nothing twice, --overwrite replaces it"


@dataclass(frozen=True, slots=True)
class Destination:
    """The options of a run about its output."""

    output: Output
    choice: Choice
    resume: bool = False  #: also the rows of earlier runs
    retry_failed: bool = False
    overwrite: bool = False

    @property
    def goes_on(self) -> bool:
        """Return whether rows of earlier runs count."""
        return self.resume or self.retry_failed

    @property
    def file(self) -> Path | None:
        """The output as a file that can grow; None for a stream, a device or the terminal."""
        if self.output.to is None or self.output.to == STDOUT or is_s3(self.output.to):
            return None
        path = expanded(self.output.to)
        return path if path.is_file() or not path.exists() else None

    @property
    def spool(self) -> Path | None:
        """The file to which rows go before some of them are chosen, so that a killed run can go on."""
        return None if self.file is None or not self.choice else unfinished_path(self.file)

    def check(self) -> None:
        """Raise `InvalidRequest` for options that contradict each other, or an output that would be lost."""
        if self.goes_on and self.overwrite:
            raise InvalidRequest("--overwrite and --resume or --retry-failed cannot be combined", hint="pass only one")
        if (self.goes_on or self.overwrite) and self.file is None:
            raise InvalidRequest(
                "--resume, --retry-failed and --overwrite need --output with a file of this machine",
                hint="score into a file, and copy it when it is complete",
            )
        if self.file is None or self.overwrite:
            return
        unfinished = unfinished_path(self.file)
        exists, is_begun = _has_rows(self.file), _has_rows(unfinished)
        if self.choice and self.goes_on and exists and not is_begun:
            raise InvalidRequest(
                f"{self.file} is complete and holds chosen images only: nothing can be added to it",
                hint="score into a file without --worst, --best or percentiles; or --overwrite",
            )
        if not self.goes_on and (exists or is_begun):
            raise InvalidRequest(f"{self.file} exists", hint=_HINT)
        if self.retry_failed and not (exists or is_begun):
            raise InvalidRequest(f"--retry-failed: {self.file} does not exist", hint="score without it first")

    @contextmanager
    def opened(self, schema: Schema) -> Iterator[GrowingFile | None]:
        """Yield the file that rows are to be added to, which earlier runs may have begun; None for a stream."""
        if self.spool is not None:
            with GrowingFile(self.spool, Format.JSONL, schema, resume=self.goes_on) as file:
                yield file
        elif self.file is not None and self.output.format is not None:
            with GrowingFile(self.file, self.output.format, schema, resume=self.goes_on) as file:
                yield file
        elif self.choice:
            with (
                tempfile.TemporaryDirectory(prefix="dpiqa-score-") as folder,
                GrowingFile(Path(folder) / "rows.jsonl", Format.JSONL, schema, resume=False) as file,
            ):
                yield file
        else:
            yield None

    def write(self, run: Run, schema: Schema, file: GrowingFile | None) -> None:
        """Score, and write the rows as they come. Raises as `Run.rows`."""
        if file is None:
            self._show(run, schema, run.rows())
            return
        if file.n_cut:
            console.warn(f"the last {file.n_cut:,} bytes of {file.path} were not a whole row, and are scored again")
        try:
            for rows in run.rows():
                file.add(rows)
        except DpiqaError:
            if self.file is not None:
                console.note(f"{file.n_added:,} more images are in {self.file}; the same command with --resume goes on")
            raise
        finally:
            if self.spool is None:
                file.finish()
        if self.file is None or (self.spool is not None and not run.interrupted):
            self._show(run, schema, _blocks(self.choice.among(file.rows)))
        if self.spool is not None and not run.interrupted:
            self.spool.unlink()
        if self.file is not None and not self.choice:
            self._say_added(file, schema)

    def _say_added(self, file: GrowingFile, schema: Schema) -> None:
        console.note(f"{file.n_added:,} rows added to {self.file}")
        if self.output.as_json:
            document = {"output": self.output.to, "rows": file.n_added, "schema": schema.id}
            console.print_json("export@1", document)

    def _show(self, run: Run, schema: Schema, blocks: Iterator[list[Row]]) -> None:
        """Write rows to a stream or a chosen file, as JSON, or as tables."""
        if self.output.to:
            self.output.export(schema, map(schema.columns_of, blocks), run.settings)
            return
        rows = (row for block in blocks for row in block)
        if self.output.as_json:
            console.print_json_array(schema.id, (_as_json(schema, row) for row in rows))
        elif len(run.names) > 1:
            show_several(run.names, rows)
        else:
            show_rows(rows)


def _as_json(schema: Schema, row: Row) -> Row:
    """Return a row with the columns of the schema, in their order, and times as JSON lines write them."""
    values = ((name, row.get(name)) for name in schema.names)
    return {name: iso_utc(value) if isinstance(value, datetime) else value for name, value in values}


def _blocks(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while block := list(islice(rows, _BLOCK)):
        yield block


def _has_rows(path: Path) -> bool:
    """Return whether a file holds more than the line with the names of its columns."""
    try:
        with path.open("rb") as file:
            file.readline()
            return bool(file.read(1)) or (path.suffix == ".jsonl" and path.stat().st_size > 0)
    except FileNotFoundError:
        return False
    except OSError:
        return True
