"""`dpiqa jobs report`: the images of a job, each with how it ended."""

from typing import Annotated, Any

import typer

from dpiqa.cli.support import context, options
from dpiqa.cli.support.groups import command
from dpiqa.cli.support.output import Output
from dpiqa.exports.rows import item_batches
from dpiqa.exports.schemas import FAILURES, ITEMS
from dpiqa.storage.audit import audited
from dpiqa.storage.engine import transaction
from dpiqa.storage.jobs import read_job
from dpiqa.types import AuditAction

FailuresOption = Annotated[
    bool, typer.Option("--failures", help="Only the images that ended unscored, each with the reason.")
]


@command(
    "report",
    "dpiqa jobs report latest --output report.parquet",
    "dpiqa jobs report 0b9b6f3e --failures --output s3://reports/failures.csv",
    "dpiqa jobs report latest --failures --format jsonl --output -",
)
def report(
    job: options.JobArgument,
    failures: FailuresOption = False,
    limit: options.LimitOption = None,
    as_json: options.JsonOption = False,
    output: options.OutputOption = None,
    format: options.FormatOption = None,  # noqa: A002 - its name
) -> None:
    """List or export the images of a job, at any time: how each ended, why, and its score.

    `dpiqa submit --report` lets a worker write the same when the job has ended.
    """
    shown = Output.parse(as_json=as_json, output=output, format=format, limit=limit)
    settings = context.read_settings()
    with context.database(settings) as engine:
        with transaction(engine) as connection:
            found = read_job(connection, job)
            schema = FAILURES if failures else ITEMS.with_details() if found.details else ITEMS
            if output is not None:
                audited(connection, AuditAction.EXPORT, found.id, schema=schema.id, output=output)
        batches = item_batches(engine, found.id, schema, limit=shown.n_rows)
        shown.write(schema, batches, _FAILURES if failures else _ITEMS, settings)


def _address(row: dict[str, Any]) -> str:
    return f"s3://{row['bucket']}/{row['key']}"


_FAILURES = (("state", "reason", "image", "detail"), lambda r: (r["state"], r["reason"], _address(r), r["detail"]))
_ITEMS = (
    ("state", "score", "band", "image", "reason"),
    lambda r: (r["state"], r["score"], r["band"], _address(r), r["reason"]),
)
