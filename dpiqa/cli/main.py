"""`dpiqa`: the commands, assembled. Importing this stays fast; each command imports what it needs when it runs."""

from typing import Annotated

import typer

from dpiqa.cli import datasets, profiles, requirements
from dpiqa.cli.evaluate import evaluate
from dpiqa.cli.jobs import follow, jobs, submit
from dpiqa.cli.models import cards
from dpiqa.cli.scores import explain, score, scores
from dpiqa.cli.support.groups import ErrorLineGroup, new_group
from dpiqa.cli.system import config, db, demo, doctor, local, processes
from dpiqa.cli.train import commands
from dpiqa.exit_codes import as_help

HELP = """Blind image quality scores for very large image archives.

A score is MOS/100: nominally 0 to 1, higher is better, never clamped; by a requirement, it is on the requirement's
scale. Results go to stdout, everything else to stderr; --json prints one JSON document. Commands find Postgres, the
broker and S3 by themselves after `dpiqa local up`, or through DPIQA_... variables (`dpiqa config show`)."""

app = new_group(
    "dpiqa",
    HELP,
    [
        "dpiqa score ~/Pictures",
        "dpiqa local up",
        "dpiqa submit s3://photos/2024/ --follow",
        "dpiqa scores --worst 5%",
        as_help(),
    ],
    cls=ErrorLineGroup,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        from dpiqa import __version__

        typer.echo(f"dpiqa {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and end.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


for module in (
    score,
    explain,
    demo,
    local,
    submit,
    follow,
    jobs,
    scores,
    doctor,
    cards,
    profiles,
    requirements,
    db,
    config,
    datasets,
    processes,
    commands,
    evaluate,
):
    module.register(app)


def main() -> None:
    """Entry point of the console script."""
    app(prog_name="dpiqa")
