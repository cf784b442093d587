"""`dpiqa stats`, `dpiqa scorers` and `dpiqa workers`."""

from typing import Annotated

import typer

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
    UntilOption,
    score_filter,
)
from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.errors import InvalidRequest
from dpiqa.http_api.stats import ScorerOut, WorkerOut
from dpiqa.storage.engine import reading
from dpiqa.storage.score_query import ScoreQuery, find_profile
from dpiqa.storage.scorers import list_scorers, read_card
from dpiqa.storage.stats import ScoreStats, read_stats
from dpiqa.storage.workers import live_workers
from dpiqa.types import GroupBy

GroupByOption = Annotated[
    GroupBy | None,
    typer.Option(
        "--by",
        help="Also by this property; prefix: the folders directly below --prefix; state, reason: the items of --job.",
    ),
]
StepOption = Annotated[float, typer.Option(min=0.001, max=1, help="Width of a bar of the histogram.")]
ScorerArgument = Annotated[
    str | None, typer.Argument(help="Scorer id, or the beginning of one; its model card is shown.", show_default=False)
]

_BAR = 30  # characters of the longest bar


@command(
    "stats",
    "dpiqa stats",
    "dpiqa stats --bucket photos --by prefix",
    "dpiqa stats --bucket photos --prefix 2024/05/ --step 0.02",
    "dpiqa stats --job latest --by reason",
    "dpiqa stats --by day --since 2026-05-01",
)
def stats(  # noqa: PLR0913 - one parameter per option
    *,
    bucket: BucketOption = None,
    prefix: PrefixOption = None,
    minimum: MinOption = None,
    maximum: MaxOption = None,
    profile: options.ProfileOption = None,
    requirement: RequirementOption = None,
    job: options.JobOption = None,
    model: ModelOption = None,
    status: StatusOption = None,
    route: RouteOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    by: GroupByOption = None,
    step: StepOption = 0.05,
    as_json: options.JsonOption = False,
) -> None:
    """Count the scores that count: quantiles, histogram, bands, groups.

    The figures come from roll-ups and are right to 0.001. Roll-ups count by bucket, folder (to a depth of 3), job and
    day; what they do not count together is counted row by row up to 20,000 scores, and refused beyond.
    """
    if profile and requirement:
        raise InvalidRequest("--profile and --requirement cannot be combined", hint="pass only one")
    conditions = score_filter(
        of_job=job is not None,
        bucket=bucket,
        prefix=prefix,
        min=minimum,
        max=maximum,
        since=since,
        until=until,
        model=model,
        status=status,
        route=route,
    )
    settings = context.read_settings()
    with context.database(settings) as engine, reading(engine) as connection:
        query = ScoreQuery(conditions=conditions).of_job(connection, job)
        profile_id = None
        if by is not GroupBy.PROFILE:
            job_id = query.conditions.job
            profile_id = find_profile(connection, settings, profile, requirement=requirement, job=job_id)
        found = read_stats(connection, query.conditions.under(profile_id), group_by=by, step=step)
    if as_json:
        console.print_json("stats@1", {"profile": profile_id, **console.jsonable(found)})
    else:
        _print(found, by)


def _print(found: ScoreStats, by: GroupBy | None) -> None:
    bands = ", ".join(f"{band} {n}" for band, n in found.bands.items())
    console.fields([("scores", found.n), ("mean", found.mean), ("bands", bands or None)])
    if found.quantiles is not None:
        names = type(found.quantiles).__slots__
        console.table(names, [[getattr(found.quantiles, name) for name in names]], title="quantiles")
    longest = max((bar.n for bar in found.histogram), default=1) or 1
    rows = [(f"{bar.low:g} to {bar.high:g}", bar.n, "#" * round(_BAR * bar.n / longest)) for bar in found.histogram]
    console.table(("score", "n", ""), rows, title="histogram")
    if by is not None:
        groups = [(group.name, group.n, group.mean, group.p5, group.p50, group.p95) for group in found.groups]
        console.table((by.value, "n", "mean", "p5", "p50", "p95"), groups, title=f"by {by}")


@command("scorers", "dpiqa scorers", "dpiqa scorers SCORER --json")
def scorers(scorer: ScorerArgument = None, as_json: options.JsonOption = False) -> None:
    """List the scorers that have scored, or show one's model card."""
    with context.database() as engine, reading(engine) as connection:
        if scorer is not None:
            console.print_json("model@1", read_card(connection, scorer)[1])
            return
        listed = list_scorers(connection)
    if as_json:
        console.print_json("scorer@2", [ScorerOut.model_validate(row) for row in listed])
        return
    columns = ("scorer", "scores", "requirement", "reference", "first score")
    rows = [(s.scorer_id, s.n_results, s.requirement, s.has_reference, s.first_seen_at) for s in listed]
    console.table(columns, rows)


@command("workers", "dpiqa workers")
def workers(as_json: options.JsonOption = False) -> None:
    """List the live workers: a heartbeat in the last minute."""
    with context.database() as engine, reading(engine) as connection:
        alive = live_workers(connection)
    if as_json:
        console.print_json("worker@2", [WorkerOut.model_validate(row) for row in alive])
        return
    rows = [(w.stage, w.host, w.pid, w.scorer_id, w.device, w.started_at, w.seen_at) for w in alive]
    console.table(("stage", "host", "pid", "scorer", "device", "started", "seen"), rows)
