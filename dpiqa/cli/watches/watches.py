"""`dpiqa watches`: standing watches: added with a check of the way of their events, listed, shown, removed."""

import re
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from sqlalchemy import Engine

from dpiqa.addresses import parse_s3
from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.cli.watches.documents import show_documents, show_plan
from dpiqa.doorbell import load_doorbell, ring_expand
from dpiqa.errors import InvalidRequest
from dpiqa.exit_codes import ExitCode
from dpiqa.http_api.watches import ReconciliationOut
from dpiqa.objects.s3 import S3Store
from dpiqa.pipeline.event_path import Check, EventPath, Examination, Verdict
from dpiqa.storage.counts import read_counts
from dpiqa.storage.engine import transaction
from dpiqa.storage.job_queries import JobReport, describe_job, get_job
from dpiqa.storage.profiles import profile_for
from dpiqa.storage.reconciliations import list_reconciliations
from dpiqa.storage.steering import cancel_job
from dpiqa.storage.watches import Watch, add_watch, find_watch, last_probe, list_watches, set_schedule

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_MIN_SECONDS, _MAX_SECONDS = 60, 365 * 86400
_STYLES = {Verdict.OK: "green", Verdict.UNKNOWN: "yellow", Verdict.FAILED: "bold red"}

AddressArgument = Annotated[
    str, typer.Argument(help="s3://bucket/prefix; a prefix, not a pattern.", metavar="S3_ADDRESS")
]
WatchArgument = Annotated[
    str, typer.Argument(help="The watch: its s3://bucket/prefix, or its job.", metavar="WATCH", show_default=False)
]
ConfigureOption = Annotated[
    bool,
    typer.Option("--configure", help="Add what is missing to the bucket's notification and to the queue's policy."),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before changing them.")]
TargetOption = Annotated[
    str | None,
    typer.Option(
        help="ARN that the bucket is to send to, such as an SNS topic, or `arn:minio:sqs::NAME:webhook`; by default "
        "that of DPIQA_QUEUE_URL."
    ),
]
AccountOption = Annotated[
    str | None, typer.Option(help="AWS account that owns the bucket; by default the owner of the queue.")
]
ProbeOption = Annotated[
    bool, typer.Option("--probe/--no-probe", help="Put and delete a small object, and wait for its events.")
]
SecondsOption = Annotated[float, typer.Option(help="Seconds to wait for the events of the probe.", min=0)]
BackfillOption = Annotated[
    bool, typer.Option("--backfill/--no-backfill", help="Also score what is under the prefix already.")
]
ReconcileOption = Annotated[
    str | None,
    typer.Option(
        help="Compare the prefix with the ledger this often, e.g. 24h or 7d; `never`: no more.", metavar="AGE"
    ),
]


@command(
    "add",
    "dpiqa watches add s3://photos/inbox/",
    "dpiqa watches add s3://photos/inbox/ --configure --reconcile-every 24h",
    "dpiqa watches add s3://photos/ --target-arn arn:minio:sqs::DPIQA:webhook --configure --yes",
)
def add(  # noqa: PLR0913, PLR0917 - the options of a command
    s3_address: AddressArgument,
    profile: options.ProfilesOption = None,
    requirement: options.RequirementOption = None,
    configure: ConfigureOption = False,
    yes: YesOption = False,
    target_arn: TargetOption = None,
    account: AccountOption = None,
    probe: ProbeOption = True,
    probe_seconds: SecondsOption = 30,
    backfill: BackfillOption = True,
    reconcile_every: ReconcileOption = None,
    details: options.DetailsOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Score what arrives under a prefix from now on, and what is there; check that the bucket's events arrive.

    May be repeated: the watch and its back-fill exist once, and the checks are made again. Exits with status 1 where
    a check failed; the watch exists all the same.
    """
    address = parse_s3(s3_address)
    if profile and requirement:
        raise InvalidRequest("--profile and --requirement cannot be combined", hint="pass only one")
    seconds = parse_interval(reconcile_every) if reconcile_every else None
    settings = context.read_settings()
    doorbell = load_doorbell(settings)
    with context.database(settings) as engine:
        next(iter(S3Store.from_settings(settings).list(address.bucket, address.key)), None)
        path = EventPath(settings, address, target=target_arn, account=account)
        examination = path.examine()
        with transaction(engine) as c:
            chosen = [profile_for(c, requirement)] if requirement else context.submitted_profiles(c, settings, profile)
            added = add_watch(c, address, chosen, backfill=backfill, details=details)
            if reconcile_every:
                set_schedule(c, added.watch.job.id, seconds)
        if added.backfill and (warning := ring_expand(doorbell, str(added.backfill.id))):
            console.warn(warning)
        verb = "watches" if added.is_new else "already watches"
        console.note(f"job {added.watch.job.id} {verb} {address} under {', '.join(added.watch.job.profiles)}")
        for other in _overlapping(engine, added.watch):
            console.note(f"job {other.job.id} watches {other.address} too: what is under both is an item of both jobs")
        if added.backfill:
            console.note(f"job {added.backfill.id} lists what is there: `dpiqa follow {added.backfill.short_id}`")
        checks, examination = _set_up(path, examination, configure=configure, yes=yes)
        if probe:
            checks = [*checks, _probe(path, engine, added.watch, probe_seconds)]
        watch = _read(engine, added.watch)
    if as_json:
        console.print_json("watch@2", _as_json(watch) | {"checks": checks, "documents": _documents(examination)})
    else:
        _show_checks(checks)
        if examination.changes and any(check.verdict is Verdict.FAILED for check in checks):
            show_documents(settings, examination)
    _exit(checks)


@command("check", "dpiqa watches check s3://photos/inbox/", "dpiqa watches check 0b9b6f3e --configure --yes")
def check(
    watch: WatchArgument,
    configure: ConfigureOption = False,
    yes: YesOption = False,
    target_arn: TargetOption = None,
    account: AccountOption = None,
    probe: ProbeOption = True,
    probe_seconds: SecondsOption = 30,
    as_json: options.JsonOption = False,
) -> None:
    """Check the way of a watch's events: the bucket's notification, the queue's policy, and a probe object.

    Exits with status 1 where a check failed.
    """
    settings = context.read_settings()
    with context.database(settings) as engine:
        with transaction(engine) as c:
            found = find_watch(c, watch)
        path = EventPath(settings, found.address, target=target_arn, account=account)
        checks, examination = _set_up(path, path.examine(), configure=configure, yes=yes)
        if probe:
            checks = [*checks, _probe(path, engine, found, probe_seconds)]
    if as_json:
        console.print_json("watch-check@1", {"checks": checks, "documents": _documents(examination)})
    else:
        _show_checks(checks)
        if examination.changes and any(check.verdict is Verdict.FAILED for check in checks):
            show_documents(settings, examination)
    _exit(checks)


def _set_up(
    path: EventPath, examination: Examination, *, configure: bool, yes: bool
) -> tuple[Sequence[Check], Examination]:
    """Set what is missing if asked, and examine again. Returns the checks, and what is still to be set."""
    if not configure or not examination.changes:
        return examination.checks, examination
    show_plan(examination)
    if not yes and not console.confirm("Change this?"):
        console.note("nothing was changed; --yes changes it without a question")
        return examination.checks, examination
    refused = path.set_up(examination)
    examination = path.examine()
    return [*examination.checks, *refused], examination


def _probe(path: EventPath, engine: Engine, watch: Watch, seconds: float) -> Check:
    with console.stderr().status(f"waiting for the events of a probe object, at most {seconds:g} s"):
        return path.probe(engine, watch, seconds)


def _show_checks(checks: Sequence[Check]) -> None:
    rows = [(console.plain(c.verdict, _STYLES[c.verdict]), c.part, c.message, c.hint) for c in checks]
    console.table(("", "check", "finding", "next step"), rows)


def _documents(examination: Examination) -> dict[str, Any]:
    return {"notification": examination.notification, "queue_policy": examination.policy}


def _exit(checks: Sequence[Check]) -> None:
    if any(check.verdict is Verdict.FAILED for check in checks):
        raise typer.Exit(ExitCode.INCOMPLETE)


def parse_interval(text: str) -> int | None:
    """Read `90m`, `24h` or `7d` as seconds; `never` as None. Raises `InvalidRequest`."""
    if text == "never":
        return None
    match = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
    if not _MIN_SECONDS <= seconds <= _MAX_SECONDS:
        raise InvalidRequest(f"{text!r} is not an interval", hint="write 90m, 24h or 7d, at least 1m; or never")
    return seconds


@command("list", "dpiqa watches list", "dpiqa watches list --json")
def list_all(
    ended: Annotated[bool, typer.Option("--ended", help="Also those that were removed.")] = False,
    as_json: options.JsonOption = False,
) -> None:
    """List the standing watches, oldest first: events seen, images, and how far the back-fill is."""
    with context.connection() as c:
        found = list_watches(c, ended=ended)
        totals = [sum(count.n for count in read_counts(c, watch.job.id)) for watch in found]
        backfills = [get_job(c, watch.backfill_job_id) if watch.backfill_job_id else None for watch in found]
    if as_json:
        console.print_json("watch@2", [_as_json(watch) for watch in found])
    elif found:
        names = ("watch", "of", "state", "events", "last event", "images", "back-fill")
        rows = zip(found, totals, backfills, strict=True)
        console.table(names, (_cells(watch, images, backfill) for watch, images, backfill in rows))
    else:
        console.note("no watches yet: `dpiqa watches add s3://bucket/prefix` makes one")


def _cells(watch: Watch, images: int, backfill: JobReport | None) -> tuple[Any, ...]:
    job = watch.job
    return (
        job.short_id,
        job.address,
        job.state,
        watch.events,
        watch.last_event_at or "never",
        images,
        _backfill(backfill),
    )


def _backfill(report: JobReport | None) -> str:
    return "none" if report is None else f"{report.job.state} {report.done}/{report.total}"


@command("show", "dpiqa watches show s3://photos/inbox/", "dpiqa watches show 0b9b6f3e --json")
def show(watch: WatchArgument, as_json: options.JsonOption = False) -> None:
    """Show one watch: events, back-fill, last probe, schedule and last reconciliation."""
    with context.connection() as c:
        found = find_watch(c, watch)
        job = found.job
        images = sum(count.n for count in read_counts(c, job.id))
        backfill = get_job(c, found.backfill_job_id) if found.backfill_job_id else None
        probe = last_probe(c, job.id)
        last = next(iter(list_reconciliations(c, bucket=job.bucket, prefix=job.prefix, limit=1).items), None)
    if as_json:
        last_out = None if last is None else ReconciliationOut.model_validate(last)
        console.print_json(
            "watch@2", _as_json(found) | {"images": images, "last_probe": probe, "last_reconciliation": last_out}
        )
        return
    every, due = found.reconcile_seconds, found.reconcile_due_at
    pairs = [
        ("watch", job.id),
        ("of", job.address),
        ("profile", ", ".join(job.profiles)),
        ("state", job.state),
        ("created", job.created_at),
        ("events", f"{found.events}" + (f", by {found.last_event_via}" if found.last_event_via else "")),
        ("passed over", f"{found.passed_over} by name no image" if found.passed_over else None),
        ("last event", found.last_event_at or "never"),
        ("images", images),
        ("back-fill", f"{_backfill(backfill)}{f' ({found.backfill_job_id})' if backfill else ''}"),
        ("last probe", "never" if probe is None else probe.sent_at),
        ("its events", None if probe is None else _arrived(probe.created_seen_at, probe.removed_seen_at)),
        ("reconciled", f"every {every} s, next {console.as_text(due)}" if every else "on request only"),
        ("last report", last and f"{last.short_id} {last.state}, {last.n_differences} differences"),
    ]
    console.fields((name, value) for name, value in pairs if value is not None)


def _arrived(created: object, removed: object) -> str:
    came = [name for name, time in (("creation", created), ("removal", removed)) if time]
    return f"{' and '.join(came)} arrived" if came else "none arrived"


@command("remove", "dpiqa watches remove s3://photos/inbox/", "dpiqa watches remove 0b9b6f3e")
def remove(watch: WatchArgument, as_json: options.JsonOption = False) -> None:
    """End a watch: its waiting images are not scored any more; scores and results stay.

    The bucket's notification is not touched: events that still arrive are ignored.
    """
    with context.connection() as c:
        found = find_watch(c, watch)
        set_schedule(c, found.job.id, None)
        job = cancel_job(c, found.job.id)
    if as_json:
        console.print_json("submitted-job@1", describe_job(job))
    else:
        console.note(f"{job.address} is not watched any more under {job.profile}; its scores stay")


def _overlapping(engine: Engine, watch: Watch) -> list[Watch]:
    """Return the other watches that cover some of the same keys."""
    with transaction(engine) as c:
        others = [other for other in list_watches(c) if other.job.bucket == watch.job.bucket]
    prefix = watch.job.prefix
    return [
        other
        for other in others
        if other.job.id != watch.job.id and (other.job.prefix.startswith(prefix) or prefix.startswith(other.job.prefix))
    ]


def _read(engine: Engine, watch: Watch) -> Watch:
    with transaction(engine) as c:
        return find_watch(c, str(watch.job.id))


def _as_json(watch: Watch) -> dict[str, Any]:
    """Return the job's fields with what is known of the watch."""
    facts = console.jsonable(watch)
    return {**describe_job(facts.pop("job")), **facts}
