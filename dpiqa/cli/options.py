"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Write all rows to this .csv, .jsonl or .parquet file.", dir_okay=False),
]
Limit = Annotated[int | None, typer.Option("--limit", "-n", min=1, help="At most so many rows.")]
ProfileName = Annotated[
    str | None,
    typer.Option("--profile", "-p", help="Profile by name or id (`dpiqa profiles list`); DPIQA_PROFILE by default."),
]
JobId = Annotated[
    str, typer.Argument(help="Job id, as `dpiqa submit` and `dpiqa jobs` print it.", metavar="JOB", show_default=False)
]
