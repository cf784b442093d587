"""`dpiqa submit`: queue a prefix, a folder, a manifest or an inventory."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from sqlalchemy import Connection, Engine

from dpiqa.cli.jobs import confirmation
from dpiqa.cli.jobs.follow import follow_job
from dpiqa.cli.jobs.origin import Origin, check_folder, find_origin
from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.doorbell import load_doorbell, ring_expand
from dpiqa.errors import InvalidRequest, NotFound
from dpiqa.exports.reports import check_report_output
from dpiqa.pipeline.callbacks import check_callback
from dpiqa.pipeline.scorers import check_choice, check_directions
from dpiqa.pipeline.submission import Request, upload
from dpiqa.profiles import Profile
from dpiqa.settings import Settings
from dpiqa.sources.spec import ManifestFormat, SourceSpec
from dpiqa.storage.engine import transaction
from dpiqa.storage.failure_checks import parse_auto_pause
from dpiqa.storage.job_queries import describe_job
from dpiqa.storage.jobs import Job, ensure_watch, submit_job
from dpiqa.storage.measures import request_details
from dpiqa.storage.profiles import profile_for
from dpiqa.storage.reports import plan_job
from dpiqa.text import first_field_error
from dpiqa.types import JobKind

SourceArgument = Annotated[
    str | None,
    typer.Argument(
        help="s3://bucket/prefix (a prefix, not a pattern), or a folder of this machine that the workers may read "
        "(DPIQA_FOLDERS). With --list: the bucket of keys that name none. With --inventory: only what is below it.",
        metavar="[SOURCE]",
        show_default=False,
    ),
]
ListOption = Annotated[
    str | None,
    typer.Option(
        "--list",
        "-l",
        help="Score what a manifest names: CSV, JSON lines, Parquet, ORC, or a key per line; a path, s3://bucket/key, "
        "or - for standard input. May be compressed by gzip or zstd.",
        metavar="MANIFEST",
        rich_help_panel="Manifests",
    ),
]
InventoryOption = Annotated[
    str | None,
    typer.Option(
        help="Score what an S3 Inventory names: its manifest.json, as s3://bucket/key or a path.",
        metavar="MANIFEST_JSON",
        rich_help_panel="Manifests",
    ),
]
FormatOption = Annotated[
    ManifestFormat | None,
    typer.Option("--format", help="Format of the manifest; found by itself.", rich_help_panel="Manifests"),
]
ColumnsOption = Annotated[
    str | None,
    typer.Option(
        help="Columns of a CSV without a header, such as bucket,key,version_id. Others are ignored.",
        metavar="NAMES",
        rich_help_panel="Manifests",
    ),
]
EncodedOption = Annotated[
    bool,
    typer.Option("--url-encoded", help="Keys are URL-encoded, as in S3 Batch Operations.", rich_help_panel="Manifests"),
]
MalformedOption = Annotated[
    float | None,
    typer.Option(
        help="Share of rows that may be malformed; they are skipped and counted. 0.01 by default.",
        min=0,
        max=1,
        rich_help_panel="Manifests",
    ),
]
IncludeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--include",
        help="Only keys that match this glob. Without / it is compared with the name, else with the whole key. "
        "May be repeated.",
        metavar="GLOB",
        rich_help_panel="Filters",
    ),
]
ExcludeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude", help="No keys that match this glob. May be repeated.", metavar="GLOB", rich_help_panel="Filters"
    ),
]
AllNamesOption = Annotated[
    bool,
    typer.Option(
        "--all-names",
        help="Also what by its name is not an image, such as .txt, .json, .mp4, ._* and Thumbs.db.",
        rich_help_panel="Filters",
    ),
]
SinceOption = Annotated[
    str | None,
    typer.Option(
        help="Only what was last modified at this time or later: 2026-05-17, with a time (UTC), or an age: 30d.",
        metavar="TIME",
        rich_help_panel="Filters",
    ),
]
LimitOption = Annotated[
    int | None, typer.Option("--limit", "-n", help="Only the first so many.", min=1, rich_help_panel="Filters")
]
SampleOption = Annotated[
    int | None,
    typer.Option(help="Only so many, chosen at random.", min=1, max=10_000_000, rich_help_panel="Filters"),
]
SeedOption = Annotated[
    int, typer.Option(help="Another seed, another sample.", min=0, rich_help_panel="Filters", show_default=True)
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Count objects and bytes, estimate the time, and submit nothing.")
]
YesOption = Annotated[
    bool, typer.Option("--yes", "-y", help="Do not ask, however many objects there are (DPIQA_CONFIRM_OBJECTS).")
]
KeyOption = Annotated[
    str | None,
    typer.Option(help="The same request with the same key gives the same job again.", metavar="KEY"),
]
WatchOption = Annotated[
    bool, typer.Option("--watch", help="Also score what the bucket's events announce under the prefix from now on.")
]
RequirementOption = Annotated[
    str | None,
    typer.Option(
        "--requirement",
        "-r",
        help="Score by this requirement and nothing else: NAME (its newest version) or NAME@VERSION.",
    ),
]
CallbackOption = Annotated[
    str | None,
    typer.Option(help="Tell this URL when the job has ended, by a signed webhook (docs/callbacks.md).", metavar="URL"),
]
FollowOption = Annotated[
    bool, typer.Option("--follow", "-f", help="Show progress until all is scored, as `dpiqa follow`.")
]


@command(
    "submit",
    "dpiqa submit s3://photos/2024/",
    "dpiqa submit s3://photos/2024/ --include '*.jpg' --since 2024-06-01 --sample 1000",
    "dpiqa submit s3://photos/ --dry-run",
    "dpiqa submit s3://photos --list keys.csv",
    "dpiqa submit s3://photos --list - --yes < keys.txt",
    "dpiqa submit --list s3://lists/2024.jsonl.gz --follow",
    "dpiqa submit --inventory s3://inventories/photos/daily/2024-06-02T01-00Z/manifest.json",
    "dpiqa submit ./photos --profile default --profile student-only",
    "dpiqa submit s3://photos/portraits/ --requirement portraits",
    "dpiqa submit s3://photos/2024/ --report s3://reports/2024.parquet",
    "dpiqa submit s3://photos/2024/ --callback https://example.org/ended",
    "dpiqa submit s3://photos/2024/ --details",
    "dpiqa submit s3://photos/inbox/ --watch",
)
def submit(  # noqa: PLR0913 - one parameter per option
    source: SourceArgument = None,
    *,
    listed: ListOption = None,
    inventory: InventoryOption = None,
    as_format: FormatOption = None,
    columns: ColumnsOption = None,
    url_encoded: EncodedOption = False,
    max_malformed: MalformedOption = None,
    include: IncludeOption = None,
    exclude: ExcludeOption = None,
    all_names: AllNamesOption = False,
    since: SinceOption = None,
    limit: LimitOption = None,
    sample: SampleOption = None,
    seed: SeedOption = 0,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    idempotency_key: KeyOption = None,
    profile: options.ProfilesOption = None,
    requirement: RequirementOption = None,
    watch: WatchOption = False,
    auto_pause: options.AutoPauseOption = None,
    report: options.ReportOption = None,
    report_failures: options.ReportFailuresOption = False,
    callback: CallbackOption = None,
    details: options.DetailsOption = False,
    follow: FollowOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Queue images for the workers: all under a prefix or in a folder, or those that a manifest names.

    Prints the job's id. May be repeated: what the profile has scored before is not scored again. A manifest of this
    machine is uploaded; a command that was killed meanwhile continues when it is repeated.
    """
    spec = _spec(
        include=tuple(include or ()),
        exclude=tuple(exclude or ()),
        all_names=all_names,
        since=options.parse_time("--since", since),
        limit=limit,
        sample=sample,
        seed=seed,
        format=as_format,
        columns=tuple(name.strip() for name in columns.split(",")) if columns else (),
        url_encoded=url_encoded,
        **({} if max_malformed is None else {"max_malformed": max_malformed}),
    )
    origin = find_origin(source, listed, inventory, spec)
    if profile and requirement:
        raise InvalidRequest("--profile and --requirement cannot be combined", hint="pass only one")
    if watch and (origin.kind is not JobKind.PREFIX or spec != SourceSpec()):
        raise InvalidRequest("--watch takes a prefix without filters", hint="submit the rest without --watch")
    settings = context.read_settings()
    settings.require_database_url()
    plan = _plan(settings, auto_pause, report, callback, failures=report_failures, details=details)
    doorbell = load_doorbell(settings)
    check_folder(origin, settings)
    with context.database(settings) as engine:
        with transaction(engine) as connection:
            if requirement:
                profiles = [profile_for(connection, requirement)]
            else:
                profiles = context.submitted_profiles(connection, settings, profile)
        _check_profiles(settings, profiles)
        if dry_run:
            confirmation.show_dry_run(engine, settings, origin, profiles, as_json=as_json)
            return
        job, standing_watch = _create(engine, settings, origin, profiles, plan, idempotency_key, yes=yes, watch=watch)
    if warning := ring_expand(doorbell, str(job.id)):
        console.warn(warning)
    _show(settings, origin, job, standing_watch, follow=follow, as_json=as_json)


def _show(
    settings: Settings, origin: Origin, job: Job, standing_watch: Job | None, *, follow: bool, as_json: bool
) -> None:
    """Say what was submitted; follow it if asked."""
    under = ", ".join(job.profiles)
    if standing_watch:
        console.note(f"job {standing_watch.id} watches {origin} under {under}")
        console.note(f"`dpiqa watches check {standing_watch.address}` tests whether its events arrive")
    if follow:
        console.note(f"job {job.id} under {under}")
        follow_job(settings, job.id, as_json=as_json)
    elif as_json:
        console.print_json("submitted-job@1", describe_job(job) | {"watch": standing_watch and standing_watch.id})
    else:
        typer.echo(job.id)
        console.note(f"{origin} is submitted under {under}; follow it with `dpiqa follow {job.id}`")


def _spec(**filters: Any) -> SourceSpec:
    """Return the filters. Raises `InvalidRequest`."""
    try:
        return SourceSpec(**filters)
    except ValidationError as error:
        found = first_field_error(error)
        option = "--" + str(found.location[0]).replace("_", "-")
        raise InvalidRequest(f"{option}: {found.message}", hint="`dpiqa submit --help` shows examples") from None


def _plan(
    settings: Settings,
    auto_pause: str | None,
    report: str | None,
    callback: str | None,
    *,
    failures: bool,
    details: bool,
) -> Callable[[Connection, Job], Job]:
    """Return the function that stores what is to become of a job, beside its scores."""
    if failures and report is None:
        raise InvalidRequest("--report-failures needs --report", hint="name the report: --report s3://bucket/key.csv")
    address = None if report is None else check_report_output(report)
    share = settings.auto_pause_share if auto_pause is None else parse_auto_pause(auto_pause)
    url = None if callback is None else check_callback(settings, callback)
    return partial(plan_job, auto_pause=share, report=address, failures=failures, callback=url, details=details)


def _create(
    engine: Engine,
    settings: Settings,
    origin: Origin,
    profiles: list[Profile],
    plan: Callable[[Connection, Job], Job],
    idempotency_key: str | None,
    *,
    yes: bool,
    watch: bool,
) -> tuple[Job, Job | None]:
    """Create the job with its plan, and before it the watch: no object may arrive between the two."""
    with origin.opened(settings) as source:
        if origin.file is not None:
            request = Request(
                kind=origin.kind,
                bucket=origin.bucket,
                spec=origin.spec,
                profiles=profiles,
                plan=plan,
                idempotency_key=idempotency_key,
            )
            ask = partial(confirmation.confirm, settings, yes=yes)
            return upload(engine, source, request, on_page=confirmation.Progress(), confirm=ask), None
        confirmation.check_source(settings, origin, source, yes=yes)
    with transaction(engine) as connection:
        standing_watch = ensure_watch(connection, origin.bucket, origin.prefix, profiles) if watch else None
        job = submit_job(
            connection,
            kind=origin.kind,
            bucket=origin.bucket,
            prefix=origin.prefix,
            profile=profiles,
            source=origin.spec,
            idempotency_key=idempotency_key,
        )
        job = plan(connection, job)
        if standing_watch is not None and job.details:
            request_details(connection, standing_watch.id)
    return job, standing_watch


def _check_profiles(settings: Settings, profiles: Iterable[Profile]) -> None:
    """Raise `ConfigurationError` where a model does not fit its stage, or the scales of two do not fit each other.

    A model that is not on this machine may well be where the workers are, and is not checked.
    """
    for profile in profiles:
        for stage, choice in profile.choices.items():
            with suppress(NotFound):
                check_choice(choice, settings, stage)
        check_directions(profile, settings)
