"""`dpiqa scores` and `dpiqa lookup`."""

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpiqa.cli import console, context, options
from dpiqa.cli.addresses import parse_job_id, parse_percent
from dpiqa.cli.app import command
from dpiqa.errors import InvalidRequest, NotFound
from dpiqa.objects.addresses import parse_s3
from dpiqa.types import Direction, ResultStatus

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from dpiqa.settings import Settings
    from dpiqa.storage.queries import Page, ScoreFilter, ScoreRow

COLUMNS: dict[str, type] = {
    "bucket": str,
    "key": str,
    "score": float,
    "scale": str,
    "model": str,
    "stage": str,
    "status": str,
    "route": str,
    "student_score": float,
    "teacher_score": float,
    "profile": str,
    "etag": str,
    "current": bool,
    "job_id": str,
    "updated_at": datetime,
}


class Order(StrEnum):
    """Orders that have an index."""

    LOWEST_FIRST = "score"
    HIGHEST_FIRST = "-score"
    OLDEST_FIRST = "updated"
    NEWEST_FIRST = "-updated"


Bucket = Annotated[str | None, typer.Option(help="Only this bucket.")]
Prefix = Annotated[str | None, typer.Option(help="Only keys that begin with this.")]
Min = Annotated[float | None, typer.Option("--min", help="Lowest score, itself included.")]
Max = Annotated[float | None, typer.Option("--max", help="Highest score, itself included.")]
Worst = Annotated[str | None, typer.Option(help="Only the worst share of what the other options choose, e.g. 5%.")]
Best = Annotated[str | None, typer.Option(help="Only the best share, likewise.")]
JobOption = Annotated[str | None, typer.Option("--job", help="Only images of this job.")]
Model = Annotated[str | None, typer.Option("--model", "-m", help="Only scores of this model, or scorer id.")]
Status = Annotated[ResultStatus | None, typer.Option(help="Only provisional or final scores.")]
Sort = Annotated[
    Order | None, typer.Option(help="score: lowest first; -score: highest first; updated, -updated: by time.")
]
Requirement = Annotated[
    str | None,
    typer.Option("--requirement", "-r", help="Only scores of jobs submitted with this requirement: NAME[@VERSION]."),
]
Address = Annotated[str, typer.Argument(help="s3://bucket/key", metavar="S3_ADDRESS", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(
        app,
        "scores",
        "dpiqa scores --worst 5%",
        "dpiqa scores --bucket photos --prefix 2024/ --max 0.4 --output bad.csv",
        "dpiqa scores --job 0b9b6f3e-8a51-4b7e-9a57-0d1c3a0a5d5f --sort -score --limit 10 --json",
    )(scores)
    command(app, "lookup", "dpiqa lookup s3://photos/2024/001.jpg")(lookup)


def scores(  # noqa: PLR0913 - one parameter per option
    *,
    bucket: Bucket = None,
    prefix: Prefix = None,
    minimum: Min = None,
    maximum: Max = None,
    worst: Worst = None,
    best: Best = None,
    profile: options.ProfileName = None,
    requirement: Requirement = None,
    job: JobOption = None,
    model: Model = None,
    status: Status = None,
    sort: Sort = None,
    limit: options.Limit = None,
    as_json: options.Json = False,
    output: options.Output = None,
) -> None:
    """Show the scores that count: one for each image under a profile, worst first.

    A score is MOS/100, nominally 0 to 1, higher is better, or on the scale of a requirement: each row says which.
    Tables show 20 rows unless --limit says otherwise; JSON and files hold all.
    """
    from dpiqa.cli.export import check_output
    from dpiqa.cli.rows import deliver, rows_wanted
    from dpiqa.storage.queries import ScoreFilter

    if output:
        check_output(output)
    _check_range(minimum, maximum)
    settings = context.settings()
    chosen = ScoreFilter(
        bucket=bucket,
        prefix=prefix,
        min=minimum,
        max=maximum,
        job=None if job is None else parse_job_id(job),
        model=model,
        status=status,
    )
    with context.database(settings) as engine:
        chosen = replace(chosen, profile=_profile_id(engine, settings, chosen, profile, requirement))
        direction = _direction(engine, str(chosen.profile))
        chosen = _share(engine, chosen, worst, best, direction)
        highest_first = bool(best) is (direction is Direction.HIGHER)
        order = sort or (Order.HIGHEST_FIRST if highest_first else Order.LOWEST_FIRST)
        console.note(f"scores under {chosen.profile}: {direction}")
        rows = _rows(engine, chosen, order, rows_wanted(as_json=as_json, output=output, limit=limit))
        deliver(rows, COLUMNS, as_json=as_json, output=output, limit=limit, line=(_NAMES, _cells))


_NAMES = ("score", "image", "status", "by", "route", "student", "updated")


def _cells(row: dict[str, Any]) -> tuple[Any, ...]:
    student = row["student_score"] if row["stage"] == "teacher" else None
    where = f"s3://{row['bucket']}/{row['key']}"
    return row["score"], where, row["status"], row["stage"], row["route"], student, row["updated_at"]


def _check_range(minimum: float | None, maximum: float | None) -> None:
    if any(bound is not None and not math.isfinite(bound) for bound in (minimum, maximum)):
        raise InvalidRequest("--min and --max must be finite numbers", cure="scores are nominally 0 to 1")
    if minimum is not None and maximum is not None and minimum > maximum:
        raise InvalidRequest("--min is above --max", cure="exchange them")


def _profile_id(
    engine: "Engine", settings: "Settings", chosen: "ScoreFilter", profile: str | None, requirement: str | None
) -> str:
    """Choose the profile: the named one, else the requirement's, else the job's, else the settings' own."""
    from dpiqa.profiles import load_profile
    from dpiqa.requirements.use import profile_for
    from dpiqa.storage.ledger import read_job
    from dpiqa.storage.sessions import transaction

    if profile and requirement:
        raise InvalidRequest("--profile and --requirement exclude each other", cure="give one of them")
    if profile and "@" in profile:
        return profile  # it may be older than those installed, or a requirement's: scores outlive files
    if profile is None and (requirement or chosen.job):
        with transaction(engine) as connection:
            if requirement:
                return profile_for(connection, requirement).id
            return read_job(connection, str(chosen.job)).profile
    return load_profile(profile or settings.profile, settings.profiles_dir).id


def _direction(engine: "Engine", profile_id: str) -> Direction:
    from dpiqa.requirements.use import direction_of
    from dpiqa.storage.sessions import transaction

    with transaction(engine) as connection:
        return direction_of(connection, profile_id)


def _share(
    engine: "Engine", chosen: "ScoreFilter", worst: str | None, best: str | None, direction: Direction
) -> "ScoreFilter":
    """Turn a share into a bound on the score. Raises `NotFound` when there is nothing to take a share of."""
    from dpiqa.storage import queries
    from dpiqa.storage.sessions import transaction

    if worst and best:
        raise InvalidRequest("--worst and --best exclude each other", cure="ask for one, then for the other")
    asked = worst or best
    if asked is None:
        return chosen
    share = parse_percent(asked) / 100
    lowest = bool(worst) is (direction is Direction.HIGHER)
    with transaction(engine) as connection:
        threshold = queries.percentile(connection, chosen, share, descending=not lowest)
    if threshold is None:
        raise NotFound("nothing is scored that fits", cure="ask with fewer options; `dpiqa jobs` shows what runs")
    side = "at most" if lowest else "at least"
    console.note(f"the {'worst' if worst else 'best'} {share * 100:g}%: scores of {side} {threshold:.4f}")
    return replace(chosen, max=threshold) if lowest else replace(chosen, min=threshold)


def _rows(engine: "Engine", chosen: "ScoreFilter", order: Order, wanted: int | None) -> Iterator[dict[str, Any]]:
    from dpiqa.cli.export import as_rows
    from dpiqa.cli.pages import walk
    from dpiqa.storage import queries

    def ask(connection: "Connection", rows: int, cursor: str | None) -> "Page[ScoreRow]":
        return queries.scores(connection, chosen, sort=order.value, limit=rows, cursor=cursor)

    return as_rows(list(COLUMNS), walk(engine, ask, wanted))


def lookup(address: Address, as_json: options.Json = False) -> None:
    """Show every score of one image: by which model, of which bytes, when, and which of them counts."""
    from dpiqa.storage import queries

    place = parse_s3(address)
    with context.connection() as connection:
        found = queries.lookup(connection, place.bucket, place.key)
    if as_json:
        console.print_json(found)
        return
    if found.deleted:
        console.note(f"{place} has been deleted")
    results = [(one.profile, one.score, one.status, one.stage, one.route, one.current) for one in found.results]
    console.table(("profile", "score", "status", "by", "route", "current"), results, title="what counts")
    columns = ("score", "scale", "scorer", "etag", "current", "scored", "job")
    rows = [(o.score, o.scale, o.scorer_id, o.etag, o.current, o.scored_at, o.job_id) for o in found.scores]
    console.table(columns, rows, title="every score")
