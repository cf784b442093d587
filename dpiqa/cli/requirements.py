"""`dpiqa requirements`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command, new_group
from dpiqa.cli.support.progress import counting
from dpiqa.types import Direction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dpiqa.requirements.builder import RequirementBuilder
    from dpiqa.requirements.pair_images import PairReader
    from dpiqa.settings import Settings
    from dpiqa.storage.requirement_queries import CheckRow

Name = Annotated[str, typer.Argument(help="Name; versions are numbered from 1.")]
NameOrId = Annotated[str, typer.Argument(help="Name (the newest version that is ready) or id, such as portraits@1.")]
Pairs = Annotated[
    Path,
    typer.Option(help="CSV with the columns path (relative to it, absolute, or s3://bucket/key) and score (0-1)."),
]
Model = Annotated[str, typer.Option("--model", "-m", help="PromptIQA model that makes the prompt features.")]
Way = Annotated[Direction, typer.Option("--direction", help="How the scores of the pairs are to be read.")]
Force = Annotated[bool, typer.Option("--force", help="Accept pairs that contradict each other.")]


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = new_group(
        "requirements",
        "Requirements: image-score pairs that tell a PromptIQA model what quality means here.",
        ["dpiqa requirements list"],
    )
    example = "dpiqa requirements create portraits --pairs pairs.csv --model promptiqa"
    command(group, "create", example, f'{example} --direction "lower is better"')(create)
    command(group, "prepare", "dpiqa requirements prepare portraits@1 --model promptiqa")(prepare)
    command(group, "list", "dpiqa requirements list")(list_all)
    command(group, "show", "dpiqa requirements show portraits", "dpiqa requirements show portraits@1 --json")(show)
    app.add_typer(group)


def create(
    name: Name,
    pairs: Pairs,
    model: Model,
    direction: Way = Direction.HIGHER,
    force: Force = False,
    as_json: options.Json = False,
) -> None:
    """Read and check image-score pairs, and keep them with their prompt features as the next version of a name.

    Needs 5 to 200 pairs, about 10 serve well, whose scores span at least 0.2 of the scale. Pairs that contradict each
    other are refused unless forced. The same pairs again give the same version.
    """
    from dpiqa.requirement import RequirementRequest, read_pairs

    request = RequirementRequest(name=name, pairs=read_pairs(pairs), direction=direction, model=model, force=force)
    request.check()
    settings = context.settings()
    with _builder(settings) as (builder, reader), counting("checking", 2 * len(request.pairs)) as advance:
        requirement = builder.create(request, reader, step=lambda: advance(1))
    _show(settings, requirement.id, as_json=as_json)
    console.note(f"score by it with --requirement {requirement.id}")


def prepare(
    name: NameOrId,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="PromptIQA model; by default the one it was created with.")
    ] = None,
    force: Force = False,
    as_json: options.Json = False,
) -> None:
    """Make the prompt features that a model lacks: after its checkpoint was exchanged, or for another model.

    The images are read again and must be what they were.
    """
    settings = context.settings()
    with _builder(settings) as (builder, reader), counting("checking", None) as advance:
        requirement = builder.prepare_again(name, reader, model=model, force=force, step=lambda: advance(1))
    _show(settings, requirement.id, as_json=as_json)


def list_all(as_json: options.Json = False) -> None:
    """List all versions of all requirements, with the direction of their scores."""
    from dpiqa.cli.support.output import walk
    from dpiqa.storage.requirement_queries import list_requirements

    with context.database() as engine:
        rows = list(walk(engine, lambda c, limit, cursor: list_requirements(c, limit=limit, cursor=cursor), None))
    if as_json:
        console.print_json(rows)
        return
    cells = [(row.id, row.state, row.direction, row.n_pairs, *_figures(row.checks)) for row in rows]
    console.table(("requirement", "state", "scores", "pairs", "leave-one-out SRCC", "MAE", "model"), cells)


def show(name: NameOrId, as_json: options.Json = False) -> None:
    """Show one version: direction, checks, and each pair with the score that the other pairs give its image."""
    _show(context.settings(), name, as_json=as_json)


@contextmanager
def _builder(settings: "Settings") -> "Iterator[tuple[RequirementBuilder, PairReader]]":
    """Open a builder in this process, and a reader of objects and files."""
    from dpiqa.imaging.decode import Limits
    from dpiqa.imaging.pool import DecodePool
    from dpiqa.objects.files import LocalFiles
    from dpiqa.objects.s3 import S3Store
    from dpiqa.requirements.builder import RequirementBuilder
    from dpiqa.requirements.pair_images import PairReader

    reader = PairReader(S3Store.from_settings(settings), LocalFiles())
    limits = Limits.from_settings(settings)
    with context.database(settings) as engine, DecodePool(settings.decode_processes, limits) as decoder:
        yield RequirementBuilder(engine, decoder, settings), reader


def _show(settings: "Settings", name: str, *, as_json: bool) -> None:
    from dpiqa.storage.requirement_queries import show_requirement

    with context.connection(settings) as connection:
        requirement = show_requirement(connection, name)
    if as_json:
        console.print_json(requirement)
        return
    console.fields(
        [
            ("requirement", requirement.id),
            ("scores", f"0-1, {requirement.direction}"),
            ("state", f"{requirement.state}: {requirement.error}" if requirement.error else requirement.state),
            ("pairs", requirement.n_pairs),
            ("created", requirement.created_at),
            *(line for check in requirement.checks for line in _lines(check)),
        ]
    )
    cells = [(pair.score, pair.leave_one_out, pair.path) for pair in requirement.pairs]
    console.table(("score", "by the others", "image"), cells)


def _lines(check: "CheckRow") -> list[tuple[str, str]]:
    srcc, mae, scorer = _figures([check])
    figures = f"SRCC {console.shown(srcc)}, mean absolute error {console.shown(mae)}"
    return [
        ("prompt features of", str(scorer)),
        ("  leave-one-out", figures),
        *(("  contradiction", sentence) for sentence in check.contradictions),
    ]


def _figures(checks: "Sequence[CheckRow]") -> tuple[float | str, float | str, str]:
    """Return SRCC, MAE and scorer of the newest check; empty before there is one."""
    if not checks:
        return "", "", ""
    srcc = checks[0].leave_one_out_srcc
    return "undefined" if srcc is None else srcc, checks[0].leave_one_out_mae, checks[0].scorer_id
