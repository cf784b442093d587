"""`dpiqa validate`: an exported file against its schema."""

from pathlib import Path
from typing import Annotated

import typer

from dpiqa.cli.documents.catalogue import DOCUMENTS
from dpiqa.cli.documents.checking import check_file
from dpiqa.cli.support import console, options
from dpiqa.cli.support.groups import command
from dpiqa.exit_codes import ExitCode
from dpiqa.exports.schemas import BY_MODEL, SCHEMAS
from dpiqa.exports.validation import validate as validate_file

FileArgument = Annotated[
    Path,
    typer.Argument(
        help="A .csv, .jsonl or .parquet file, the folder of a dataset, or what `--json` printed.", show_default=False
    ),
]
SchemaOption = Annotated[
    str | None,
    typer.Option(
        "--schema",
        help=f"Schema that it should follow: {', '.join((*SCHEMAS, *BY_MODEL))}, or one of a document such as job@1 "
        "(docs/schemas.md). By default the one that it claims.",
    ),
]


@command(
    "validate",
    "dpiqa validate scores.parquet",
    "dpiqa validate scores/",
    "dpiqa validate report.csv --schema failures@1 --json",
    "dpiqa validate job.json --schema job@1",
)
def validate(file: FileArgument, schema: SchemaOption = None, as_json: options.JsonOption = False) -> None:
    """Check an exported file, or what `--json` printed, against its schema: says what is wrong, and where.

    A Parquet file names its schema; of others it is found by their columns or fields. Columns that the schema does not
    have are allowed. Exits with status 1 if anything is wrong.
    """
    is_document = schema is not None and (schema in DOCUMENTS or f"{schema}@1" in DOCUMENTS)
    check = check_file if is_document or file.suffix.lower() == ".json" else validate_file
    result = check(file, schema)
    if as_json:
        console.print_json(
            "validation@1",
            {
                "file": str(file),
                "schema": result.schema.id,
                "rows": result.n_rows,
                "problems": [
                    {
                        "file": problem.file,
                        "line": problem.line,
                        "column": problem.column,
                        "message": problem.message,
                    }
                    for problem in result.problems
                ],
                "n_problems": result.n_problems,
            },
        )
    else:
        for problem in result.problems:
            typer.echo(console.plain(str(problem)).plain)
        if result.n_problems > len(result.problems):
            console.note(f"the first {len(result.problems)} of {result.n_problems}")
        outcome = "valid" if not result.n_problems else f"not valid: {result.n_problems} problems"
        console.note(f"{file}: {result.n_rows} rows of {result.schema.id}, {outcome}")
    if result.n_problems:
        raise typer.Exit(ExitCode.INCOMPLETE)
