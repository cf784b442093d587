"""`dpiqa scores` and `dpiqa lookup`."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpiqa.addresses import parse_s3
from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.console import percent
from dpiqa.cli.support.groups import command
from dpiqa.cli.support.options import parse_job_id
from dpiqa.errors import InvalidRequest, NotFound
from dpiqa.types import Band, ResultStatus, ScoreOrder

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from dpiqa.settings import Settings
    from dpiqa.storage.pages import Page
    from dpiqa.storage.score_query import ResolvedQuery, ScoreQuery
    from dpiqa.storage.scores import ScoreRow

COLUMNS: dict[str, type] = {
    "bucket": str,
    "key": str,
    "score": float,
    "scale": str,
    "percentile": float,
    "band": str,
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


Bucket = Annotated[str | None, typer.Option(help="Only this bucket.")]
Prefix = Annotated[str | None, typer.Option(help="Only keys that begin with this.")]
Min = Annotated[float | None, typer.Option("--min", help="Lowest score, itself included.")]
Max = Annotated[float | None, typer.Option("--max", help="Highest score, itself included.")]
Worst = Annotated[str | None, typer.Option(help="Only the worst share of what the other options choose, e.g. 5%.")]
Best = Annotated[str | None, typer.Option(help="Only the best share, likewise.")]
JobOption = Annotated[str | None, typer.Option("--job", help="Only images of this job.")]
Model = Annotated[str | None, typer.Option("--model", "-m", help="Only scores of this model, or scorer id.")]
Status = Annotated[ResultStatus | None, typer.Option(help="Only provisional or final scores.")]
Bands = Annotated[
    list[Band] | None,
    typer.Option("--band", help="Only this band of the scorer's reference population. May be repeated."),
]
Sort = Annotated[
    ScoreOrder | None, typer.Option(help="score: lowest first; -score: highest first; updated, -updated: by time.")
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
        "dpiqa scores --band bad --band poor --limit 100",
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
    band: Bands = None,
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
    Percentile and band compare it with the scorer's reference population (`dpiqa models show`), --worst and --best with
    what the other options choose. Tables show 20 rows unless --limit says otherwise; JSON and files hold all.
    """
    from dpiqa.cli.support.output import check_output, deliver, rows_wanted
    from dpiqa.percentiles import parse_share
    from dpiqa.storage.score_query import ScoreQuery
    from dpiqa.storage.scores import ScoreFilter

    if output:
        check_output(output)
    conditions = ScoreFilter(
        bucket=bucket,
        prefix=prefix,
        min=minimum,
        max=maximum,
        job=None if job is None else parse_job_id(job),
        model=model,
        status=status,
    )
    conditions.check_range("--{}")
    if profile and requirement:
        raise InvalidRequest("--profile and --requirement exclude each other", hint="give one of them")
    share = parse_share(worst, best, field="--{}")
    query = ScoreQuery(conditions=conditions, bands=tuple(band or ()), share=share, order=sort)
    settings = context.settings()
    with context.database(settings) as engine:
        resolved = _resolve(engine, settings, query, profile, requirement)
        rows = _rows(engine, resolved, rows_wanted(as_json=as_json, output=output, limit=limit))
        deliver(rows, COLUMNS, as_json=as_json, output=output, limit=limit, line=(_NAMES, _cells))


def _resolve(
    engine: "Engine", settings: "Settings", query: "ScoreQuery", profile: str | None, requirement: str | None
) -> "ResolvedQuery":
    """Resolve the query and describe it on stderr. Raises `NotFound` where there is nothing to take a share of."""
    from dpiqa.storage.engine import transaction
    from dpiqa.storage.score_query import find_profile

    with transaction(engine) as connection:
        job = query.conditions.job
        profile_id = find_profile(connection, settings, profile, requirement=requirement, job=job)
        query = replace(query, conditions=replace(query.conditions, profile=profile_id))
        resolved = query.resolve(connection)
    if resolved.without_bands:
        scorers = ", ".join(resolved.without_bands)
        console.warn(f"scores of {scorers} are left out: they have no bands, for want of a reference")
    if query.share is not None:
        if resolved.threshold is None:
            raise NotFound("nothing is scored that fits", hint="ask with fewer options; `dpiqa jobs` shows what runs")
        end = "worst" if query.share.worst else "best"
        side = "at most" if resolved.lowest else "at least"
        console.note(f"the {end} {query.share.percent:g}%: scores of {side} {resolved.threshold:.4f}")
    console.note(f"scores under {profile_id}: {resolved.direction}")
    return resolved


_NAMES = ("score", "percentile", "band", "image", "status", "by", "route", "student", "updated")


def _cells(row: dict[str, Any]) -> tuple[Any, ...]:
    student = row["student_score"] if row["stage"] == "teacher" else None
    where = f"s3://{row['bucket']}/{row['key']}"
    meaning = percent(row["percentile"]), row["band"]
    return row["score"], *meaning, where, row["status"], row["stage"], row["route"], student, row["updated_at"]


def _rows(engine: "Engine", query: "ResolvedQuery", limit: int | None) -> Iterator[dict[str, Any]]:
    from dpiqa.cli.support.output import as_rows, walk

    def read_page(connection: "Connection", rows: int, cursor: str | None) -> "Page[ScoreRow]":
        return query.page(connection, limit=rows, cursor=cursor)

    return as_rows(list(COLUMNS), walk(engine, read_page, limit))


def lookup(address: Address, as_json: options.Json = False) -> None:
    """Show every score of one image: by which model, of which bytes, when, and which of them counts."""
    from dpiqa.storage import scores

    object_address = parse_s3(address)
    with context.connection() as connection:
        stored = scores.lookup(connection, object_address.bucket, object_address.key)
    if as_json:
        console.print_json(stored)
        return
    if stored.deleted:
        console.note(f"{object_address} has been deleted")
    results = [
        (r.profile, r.score, percent(r.percentile), r.band, r.status, r.stage, r.route, r.current)
        for r in stored.results
    ]
    names = ("profile", "score", "percentile", "band", "status", "by", "route", "current")
    console.table(names, results, title="what counts")
    columns = ("score", "scale", "scorer", "etag", "current", "scored", "job")
    rows = [(s.score, s.scale, s.scorer_id, s.etag, s.current, s.scored_at, s.job_id) for s in stored.scores]
    console.table(columns, rows, title="every score")
