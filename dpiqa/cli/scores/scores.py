"""`dpiqa scores` and `dpiqa lookup`."""

from typing import Annotated, Any

import typer
from sqlalchemy import Engine

from dpiqa.addresses import object_address, parse_s3
from dpiqa.cli.scores.filters import (
    BucketOption,
    MaxOption,
    MinOption,
    ModelOption,
    PrefixOption,
    RequirementOption,
    RouteOption,
    SinceOption,
    StatusOption,
    SuffixOption,
    UntilOption,
    score_filter,
)
from dpiqa.cli.scores.rows import MEASURE_HEADINGS, measure_words
from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.console import ordinal
from dpiqa.cli.support.groups import command
from dpiqa.cli.support.output import Output
from dpiqa.errors import InvalidRequest, NotFound
from dpiqa.exports.datasets import DAY, PARTITION_COLUMNS
from dpiqa.exports.rows import note_export, score_batches
from dpiqa.exports.schemas import SCORES
from dpiqa.http_api.scores import ImageScores
from dpiqa.percentiles import parse_share
from dpiqa.settings import Settings
from dpiqa.storage.engine import transaction
from dpiqa.storage.lookups import lookup as look_up
from dpiqa.storage.score_query import ResolvedQuery, ScoreQuery, find_profile
from dpiqa.types import Band, ScoreOrder

WorstOption = Annotated[
    str | None, typer.Option(help="Only the worst share of what the other options select, e.g. 5%.", metavar="SHARE")
]
BestOption = Annotated[str | None, typer.Option(help="Only the best share, e.g. 5%.", metavar="SHARE")]
BandsOption = Annotated[
    list[Band] | None,
    typer.Option("--band", help="Only this band of the scorer's reference population. May be repeated."),
]
SortOption = Annotated[
    ScoreOrder | None, typer.Option(help="score: lowest first; -score: highest first; updated, -updated: by time.")
]
PartitionByOption = Annotated[
    str | None,
    typer.Option(
        help="Write --output as a dataset, a folder of Parquet files by these columns: "
        f"{', '.join(PARTITION_COLUMNS)}; {DAY} is that of the last change. Rows are then in the order of time.",
        metavar="COLUMNS",
    ),
]
DetailsOption = Annotated[
    bool,
    typer.Option("--details", help="Also show the measures of the pictures, where a job asked for details."),
]
AddressArgument = Annotated[str, typer.Argument(help="s3://bucket/key", metavar="S3_ADDRESS", show_default=False)]


@command(
    "scores",
    "dpiqa scores --worst 5%",
    "dpiqa scores --band bad --band poor --limit 100",
    "dpiqa scores --bucket photos --prefix 2024/ --max 0.4 --output bad.csv",
    "dpiqa scores --job 0b9b6f3e-8a51-4b7e-9a57-0d1c3a0a5d5f --sort -score --limit 10 --json",
    "dpiqa scores --bucket photos --output s3://reports/photos.parquet",
    "dpiqa scores --partition-by bucket,day --output scores/",
)
def scores(  # noqa: PLR0913 - one parameter per option
    *,
    bucket: BucketOption = None,
    prefix: PrefixOption = None,
    suffix: SuffixOption = None,
    minimum: MinOption = None,
    maximum: MaxOption = None,
    worst: WorstOption = None,
    best: BestOption = None,
    band: BandsOption = None,
    profile: options.ProfileOption = None,
    requirement: RequirementOption = None,
    job: options.JobOption = None,
    model: ModelOption = None,
    status: StatusOption = None,
    route: RouteOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    sort: SortOption = None,
    details: DetailsOption = False,
    limit: options.LimitOption = None,
    as_json: options.JsonOption = False,
    output: options.OutputOption = None,
    format: options.FormatOption = None,  # noqa: A002 - its name
    partition_by: PartitionByOption = None,
) -> None:
    """Show the scores that count: one for each image under a profile, worst first.

    A score is MOS/100, nominally 0 to 1, higher is better, or on the scale of a requirement: each row says which.
    Percentile and band compare it with the scorer's reference population (`dpiqa models show`), --worst and --best with
    what the other options select. Tables show 20 rows unless --limit says otherwise; JSON and files hold all.
    """
    shown = Output.parse(as_json=as_json, output=output, format=format, partition_by=partition_by, limit=limit)
    if shown.partition_by and sort not in (None, ScoreOrder.OLDEST_FIRST):
        raise InvalidRequest("a partitioned dataset is in the order of time", hint="leave out --sort")
    if profile and requirement:
        raise InvalidRequest("--profile and --requirement cannot be combined", hint="pass only one")
    conditions = score_filter(
        of_job=job is not None,
        bucket=bucket,
        prefix=prefix,
        suffix=suffix,
        min=minimum,
        max=maximum,
        since=since,
        until=until,
        model=model,
        status=status,
        route=route,
    )
    share = parse_share(worst, best, field="--{}")
    query = ScoreQuery(
        conditions=conditions,
        bands=tuple(band or ()),
        share=share,
        order=ScoreOrder.OLDEST_FIRST if shown.partition_by else sort,
    )
    schema = SCORES.with_details() if details else SCORES
    settings = context.read_settings()
    with context.database(settings) as engine:
        resolved = _resolve(engine, settings, query, job, profile, requirement)
        if output is not None:
            note_export(engine, schema, resolved.conditions, output=output)
        batches = score_batches(engine, resolved, shown.n_rows, schema=schema)
        shown.write(schema, batches, _DETAILED if details else _LAYOUT, settings)


def _resolve(
    engine: Engine,
    settings: Settings,
    query: ScoreQuery,
    job: str | None,
    profile: str | None,
    requirement: str | None,
) -> ResolvedQuery:
    """Resolve the query and describe it on stderr. Raises `NotFound` where there is nothing to take a share of."""
    with transaction(engine) as connection:
        query = query.of_job(connection, job)
        profile_id = find_profile(connection, settings, profile, requirement=requirement, job=query.conditions.job)
        resolved = query.under(profile_id).resolve(connection)
    if resolved.without_bands:
        scorers = ", ".join(resolved.without_bands)
        console.warn(f"scores of {scorers} are left out: they have no bands, because they have no reference population")
    if query.share is not None:
        if resolved.threshold is None:
            raise NotFound("no scored image matches", hint="use fewer options; `dpiqa jobs` shows what runs")
        end = "worst" if query.share.worst else "best"
        side = "at most" if resolved.lowest else "at least"
        console.note(f"the {end} {query.share.percent:g}%: scores of {side} {resolved.threshold:.4f}")
    console.note(f"scores under {profile_id}: {resolved.direction}")
    return resolved


def _cells(row: dict[str, Any]) -> tuple[Any, ...]:
    student = row["student_score"] if row["stage"] == "teacher" else None
    address = object_address(row["bucket"], row["key"])
    rank = ordinal(row["percentile"]), row["band"]
    return row["score"], *rank, address, row["status"], row["stage"], row["route"], student, row["updated_at"]


def _measures(row: dict[str, Any]) -> tuple[Any, ...]:
    rank = ordinal(row["percentile"]), row["band"]
    return row["score"], *rank, object_address(row["bucket"], row["key"]), *map(row.get, MEASURE_HEADINGS.values())


_DETAILED = (("score", "percentile", "band", "image", *MEASURE_HEADINGS), _measures)
_LAYOUT = (("score", "percentile", "band", "image", "status", "by", "route", "student", "updated"), _cells)


@command("lookup", "dpiqa lookup s3://photos/2024/001.jpg")
def lookup(s3_address: AddressArgument, as_json: options.JsonOption = False) -> None:
    """Show every score of one image: by which model, when, which of them counts, and why it was not scored."""
    address = parse_s3(s3_address)
    with context.connection() as connection:
        stored = look_up(connection, address.bucket, address.key)
    if as_json:
        console.print_json("lookup@2", ImageScores.model_validate(stored))
        return
    if stored.deleted:
        console.note(f"{address} has been deleted")
    results = [
        (r.profile, r.score, ordinal(r.percentile), r.band, r.status, r.stage, r.route, r.current)
        for r in stored.results
    ]
    names = ("profile", "score", "percentile", "band", "status", "by", "route", "current")
    console.table(names, results, title="what counts")
    measured = {r.etag: measure_words(r.measures.as_row()) for r in stored.results if r.measures is not None}
    if measured:
        console.table(("etag", "measures"), measured.items(), title="measures of the picture")
    columns = ("score", "scale", "scorer", "etag", "current", "scored", "job")
    rows = [(s.score, s.scale, s.scorer_id, s.etag, s.current, s.scored_at, s.job_id) for s in stored.scores]
    console.table(columns, rows, title="every score")
    in_jobs = [(i.job_id, i.profile, i.etag, i.state, i.reason, i.detail, i.finished_at) for i in stored.items]
    console.table(
        ("job", "profile", "etag", "state", "reason", "detail", "finished"), in_jobs, title="in jobs, newest first"
    )
