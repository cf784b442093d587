"""`dpiqa requirements`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.cli.support.pages import read_pages
from dpiqa.cli.support.progress import counting
from dpiqa.imaging.decode import Limits
from dpiqa.imaging.pool import DecodePool
from dpiqa.objects.s3 import S3Store
from dpiqa.objects.store import LocalFiles
from dpiqa.requirement import RequirementRequest, read_pairs
from dpiqa.requirements.builder import RequirementBuilder
from dpiqa.requirements.pair_images import PairReader
from dpiqa.settings import Settings
from dpiqa.storage.requirement_queries import CheckRow, show_requirement
from dpiqa.storage.requirement_queries import list_requirements as requirement_page
from dpiqa.types import Direction

NameArgument = Annotated[str, typer.Argument(help="Name; versions are numbered from 1.")]
NameOrIdArgument = Annotated[
    str,
    typer.Argument(
        help="Name (the newest version that is ready) or id, such as portraits@1.",
        autocompletion=options.complete_requirement,
    ),
]
PairsOption = Annotated[
    Path,
    typer.Option(help="CSV with the columns path (relative to it, absolute, or s3://bucket/key) and score (0-1)."),
]
ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="PromptIQA model that makes the prompt features.",
        autocompletion=options.complete_model,
    ),
]
DirectionOption = Annotated[Direction, typer.Option("--direction", help="Which end of the pairs' scores is better.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Accept pairs that contradict each other.")]
_CREATE_EXAMPLE = "dpiqa requirements create portraits --pairs pairs.csv --model promptiqa"


@command("create", _CREATE_EXAMPLE, f'{_CREATE_EXAMPLE} --direction "lower is better"')
def create(
    name: NameArgument,
    pairs: PairsOption,
    model: ModelOption,
    direction: DirectionOption = Direction.HIGHER,
    force: ForceOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Read and check image-score pairs, and keep them with their prompt features as the next version of a name.

    Needs 5 to 200 pairs, of which about 10 serve well, with scores that span at least 0.2 of the scale. Pairs that
    contradict each other are refused unless forced. The same pairs give the same version.
    """
    request = RequirementRequest(name=name, pairs=read_pairs(pairs), direction=direction, model=model, force=force)
    request.check()
    settings = context.read_settings()
    with _builder(settings) as (builder, reader), counting("checking", len(request.pairs)) as advance:
        requirement = builder.create(request, reader, step=lambda: advance(1))
    _print_requirement(settings, requirement.id, as_json=as_json)
    console.note(f"score by it with --requirement {requirement.id}")


@command("prepare", "dpiqa requirements prepare portraits@1 --model promptiqa")
def prepare(
    name: NameOrIdArgument,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="PromptIQA model; by default the one it was created with.")
    ] = None,
    force: ForceOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Make the prompt features that a model lacks: after its checkpoint was replaced, or for another model.

    The images are read again and must be unchanged.
    """
    settings = context.read_settings()
    with _builder(settings) as (builder, reader), counting("checking", None) as advance:
        requirement = builder.prepare_again(name, reader, model=model, force=force, step=lambda: advance(1))
    _print_requirement(settings, requirement.id, as_json=as_json)


@command("list", "dpiqa requirements list")
def list_requirements(as_json: options.JsonOption = False) -> None:
    """List all versions of all requirements, with the direction of their scores."""
    with context.database() as engine:
        rows = list(read_pages(engine, lambda c, limit, cursor: requirement_page(c, limit=limit, cursor=cursor), None))
    if as_json:
        console.print_json("requirement@1", rows)
        return
    table = [(row.id, row.state, row.direction, row.n_pairs, *_figures(row.checks)) for row in rows]
    console.table(("requirement", "state", "scores", "pairs", "leave-one-out SRCC", "MAE", "model"), table)


@command("show", "dpiqa requirements show portraits", "dpiqa requirements show portraits@1 --json")
def show(name: NameOrIdArgument, as_json: options.JsonOption = False) -> None:
    """Show one version: direction, checks, and each pair with the score that the other pairs give its image."""
    _print_requirement(context.read_settings(), name, as_json=as_json)


@contextmanager
def _builder(settings: Settings) -> Iterator[tuple[RequirementBuilder, PairReader]]:
    """Open a builder in this process, and a reader of objects and files."""
    reader = PairReader(S3Store.from_settings(settings), LocalFiles())
    limits = Limits.from_settings(settings)
    with context.database(settings) as engine, DecodePool(settings.decode_processes, limits) as decoder:
        yield RequirementBuilder(engine, decoder, settings), reader


def _print_requirement(settings: Settings, name: str, *, as_json: bool) -> None:
    with context.connection(settings) as connection:
        requirement = show_requirement(connection, name)
    if as_json:
        console.print_json("requirement-pairs@1", requirement)
        return
    console.fields(
        [
            ("requirement", requirement.id),
            ("scores", f"0-1, {requirement.direction}"),
            ("state", f"{requirement.state}: {requirement.error}" if requirement.error else requirement.state),
            ("pairs", requirement.n_pairs),
            ("created", requirement.created_at),
            *(line for check in requirement.checks for line in _check_lines(check)),
        ]
    )
    cells = [(pair.score, pair.leave_one_out, pair.path) for pair in requirement.pairs]
    console.table(("score", "by the others", "image"), cells)


def _check_lines(check: CheckRow) -> list[tuple[str, str]]:
    srcc, mae, scorer = _figures([check])
    figures = f"SRCC {console.as_text(srcc)}, mean absolute error {console.as_text(mae)}"
    return [
        ("prompt features of", str(scorer)),
        ("  leave-one-out", figures),
        *(("  contradiction", sentence) for sentence in check.contradictions),
    ]


def _figures(checks: Sequence[CheckRow]) -> tuple[float | str, float | str, str]:
    """Return SRCC, MAE and scorer of the newest check; empty before there is one."""
    if not checks:
        return "", "", ""
    srcc = checks[0].leave_one_out_srcc
    return "undefined" if srcc is None else srcc, checks[0].leave_one_out_mae, checks[0].scorer_id
