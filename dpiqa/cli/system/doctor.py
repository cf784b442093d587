"""`dpiqa doctor`: the checks of an installation, and how to fix what is wrong.

Each check returns a finding or raises a `DpiqaError`, which becomes one. They run in threads, so their imports stand
here: two threads that import one package at the same time may see half of it.
"""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import typer
from sqlalchemy import func, select

from dpiqa.broker import require_no_eviction
from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.doorbell import Queue, load_doorbell
from dpiqa.errors import ConfigurationError, DpiqaError
from dpiqa.exit_codes import ExitCode
from dpiqa.extras import missing_library
from dpiqa.imaging.decode import Limits
from dpiqa.imaging.optional import OPTIONAL, RAW, is_installed
from dpiqa.imaging.pool import DecodePool
from dpiqa.models.cards import find_card, list_cards, verify
from dpiqa.objects.s3 import S3Store
from dpiqa.objects.sqs import EventsQueue
from dpiqa.pipeline.findings import (
    Finding,
    Level,
    fail,
    find_expiring_keys,
    find_old_profiles,
    find_postponed,
    find_waiting,
    find_workers,
    ok,
    warn,
)
from dpiqa.pipeline.scorers import check_profile
from dpiqa.settings import Settings
from dpiqa.storage import schema_state
from dpiqa.storage.job_queries import JobFilter, list_jobs
from dpiqa.storage.requirements import find_prepared
from dpiqa.storage.watches import listener_is_connected
from dpiqa.text import first_line
from dpiqa.types import ENDED_JOB_STATES, JobState, ModelKind
from dpiqa.urls import mask_url

_ENOUGH_DISK_BYTES = 2 * 1024**3
_LATE_MESSAGES = 10_000  #: in the event queue


def database(settings: Settings) -> Finding:
    """Check that Postgres answers, is recent enough, stores UTF-8, and that the tables can be written."""
    url = settings.require_database_url()
    with context.connection(settings) as connection:
        names = func.current_setting("server_version"), func.current_setting("server_encoding")
        version, encoding = connection.execute(select(*names)).one()
        schema_state.require_writable(connection)
    if int(str(version).split(".", maxsplit=1)[0]) < 14:
        return fail("database", f"Postgres {version} is too old", "use Postgres 14 or newer")
    if encoding != "UTF8":
        return fail(
            "database", f"it stores text as {encoding}", "CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
        )
    return ok("database", f"Postgres {version} at {mask_url(url)}")


def tables(settings: Settings) -> Finding:
    """Check that the tables are those of this version."""
    with context.database(settings) as engine:
        state = schema_state.state(engine)
    return ok("tables", f"at {state.current}") if state.is_current else fail("tables", str(state), state.hint)


def requirements(settings: Settings) -> Finding:
    """Check that the requirements of the profile are ready."""
    profile = context.profile(settings)
    names = [choice.requirement for choice in profile.choices.values() if choice.requirement]
    if not names:
        return ok("requirements", f"profile {profile.id} needs none")
    with context.connection(settings) as connection:
        ready = [find_prepared(connection, name) for name in names]
    return ok("requirements", ", ".join(f"{requirement.id}: {requirement.direction}" for requirement in ready))


def broker(settings: Settings) -> Finding:
    """Check that the broker answers; of Redis, that it does not evict messages."""
    url = settings.require_broker_url()
    if not url.is_redis:
        waiting = load_doorbell(settings).depth(Queue.LIVE)
        return ok("broker", f"{url} answers, {waiting} message(s) waiting in {Queue.LIVE}")
    info = require_no_eviction(url)
    if info.eviction_policy == "?":
        hint = "allow the user INFO, or check by hand that maxmemory-policy is noeviction"
        return warn("broker", f"{url} answers, and its user may not ask for its policy of eviction", hint)
    return ok("broker", f"{info.product} {info.version} at {url}, policy {info.eviction_policy}")


def s3(settings: Settings) -> Finding:
    """Check that S3 answers and lists the buckets of the latest jobs."""
    server = settings.s3_endpoint_url or f"AWS, {settings.aws_region}"
    store = S3Store.from_settings(settings)
    buckets = _known_buckets(settings)
    if buckets:
        missing = [bucket for bucket in buckets if store.is_missing(bucket)]
        if missing:
            hint = "`dpiqa jobs` shows the jobs that need them; cancel those, or create the buckets"
            return warn("S3", f"{server} answers, and has no bucket {', '.join(missing)}", hint)
        for bucket in buckets:
            next(iter(store.list(bucket, "")), None)
        return ok("S3", f"{server} lists {', '.join(buckets)}")
    names = store.bucket_names()
    if names is None:
        return ok("S3", f"{server} answers, and these credentials may not list all buckets, which is fine")
    return ok("S3", f"{server} answers, {len(names)} bucket(s)")


def _known_buckets(settings: Settings) -> list[str]:
    """Return the buckets of the latest open jobs; none where the database fails, which another check reports."""
    chosen = JobFilter(states=tuple(sorted(set(JobState) - ENDED_JOB_STATES)))
    try:
        with context.connection(settings) as connection:
            return sorted({job.bucket for job in list_jobs(connection, chosen, limit=20).items if job.bucket})
    except DpiqaError:
        return []


def events(settings: Settings) -> Finding:
    """Check that the SQS queue of the listener can be read."""
    if not settings.queue_url:
        hint = "set DPIQA_QUEUE_URL to score objects as they arrive; `dpiqa submit` works without"
        return warn("event queue", "no queue is configured: new objects are not scored automatically", hint)
    waiting = EventsQueue(settings).depth()
    message = f"{settings.queue_url}, about {waiting} message(s) waiting"
    with context.connection(settings) as connection:
        is_connected = listener_is_connected(connection)
    if is_connected is False:
        return warn("event queue", f"{message}; no listener is connected to the database", "start `dpiqa listen`")
    if waiting > _LATE_MESSAGES:
        return warn("event queue", message, "start a second `dpiqa listen`; docs/operations.md: listener lag")
    return ok("event queue", message)


def models(settings: Settings) -> Finding:
    """Check that the profile's models are on this machine, undamaged."""
    profile = context.profile(settings)
    check_profile(profile, settings)
    cards = list_cards(settings.models_dir)
    for card in cards:
        verify(card, settings.models_dir)
    return ok("models", f"profile {profile.id}; verified: {', '.join(card.name for card in cards)}")


def device(settings: Settings) -> Finding:
    """Check that torch is installed, and name the device that it would compute on."""
    try:
        import torch  # noqa: PLC0415 - seconds of start-up, and an extra

        from dpiqa.models.torch_scorer import choose_device  # noqa: PLC0415 - seconds of start-up, and an extra
    except ImportError as error:
        return _without_torch(settings, missing_library(error, "scoring on this machine"))
    device = choose_device(settings.device)
    if device.type == "cuda":
        return ok("device", f"torch {torch.__version__}, {torch.cuda.get_device_name(device)}")
    return ok("device", f"torch {torch.__version__}, CPU, {settings.threads or torch.get_num_threads()} threads")


def _without_torch(settings: Settings, missing: ConfigurationError) -> Finding:
    profile = context.profile(settings)
    cards = [find_card(choice.model, settings.models_dir) for choice in profile.choices.values()]
    if all(card.kind is ModelKind.PIXELS for card in cards):
        return ok("device", f"torch is not installed; profile {profile.id} does not need it")
    return warn("device", missing.message, missing.hint)


def formats(settings: Settings) -> Finding:
    """Check that the decoders of optional formats are installed here; previews of camera raw only where asked for."""
    wanted = [name for name in OPTIONAL if name != RAW or settings.raw_previews]
    missing = [name for name in wanted if not is_installed(name)]
    if missing:
        hint = f"pip install 'dpiqa[{'formats,raw' if RAW in missing else 'formats'}]' where workers run"
        return warn("formats", f"no decoder of {', '.join(missing)} is installed: such images are rejected", hint)
    return ok("formats", f"beside the usual ones: {', '.join(wanted)}")


def decoders(settings: Settings) -> Finding:
    """Check that a decode process starts, and name what confines it."""
    limits = Limits.from_settings(settings)
    with DecodePool(1, limits) as pool:
        confinement = pool.start()
    each = f"{limits.memory_bytes // 1024**2} MiB each of {settings.decode_processes} process(es)"
    if limits.sandbox == "off":
        return warn("decoders", f"no sandbox, {each}", "unset DPIQA_DECODE_SANDBOX, which is `off`")
    if not confinement.is_complete:
        hint = "use a kernel or container runtime with seccomp; docs/imaging.md says what holds without"
        return warn("decoders", f"confined by {confinement} only, {each}", hint)
    return ok("decoders", f"confined by {confinement}; {each}")


def disk(settings: Settings) -> Finding:
    """Check that there is disk space for the embedded stack's data."""
    folder = settings.home
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    message = f"{free / 1024**3:.1f} GiB free at {folder}"
    if free < _ENOUGH_DISK_BYTES // 4:
        return fail("disk", message, "free some space, or set DPIQA_HOME to a larger disk")
    return ok("disk", message) if free >= _ENOUGH_DISK_BYTES else warn("disk", message, "free some space soon")


def postponed(settings: Settings) -> Finding:
    """Check that no bucket is postponed because its fetches fail."""
    with context.connection(settings) as connection:
        return find_postponed(connection)


def queues(settings: Settings) -> Finding:
    """Check that what waits is taken, and that leases that ran out are taken back."""
    with context.connection(settings) as connection:
        return find_waiting(connection)


def keys(settings: Settings) -> Finding:
    """Check that no API key expires soon."""
    with context.connection(settings) as connection:
        return find_expiring_keys(connection)


def workers(settings: Settings) -> Finding:
    """Check that both models of the profile are served."""
    profile = context.profile(settings)
    with context.connection(settings) as connection:
        return find_workers(connection, profile)


def profiles(settings: Settings) -> Finding:
    """Check that no watch goes on with an older version of a built-in profile whose models have other weights now."""
    profile = context.profile(settings)
    with context.connection(settings) as connection:
        return find_old_profiles(connection, profile, settings.models_dir)


Check: TypeAlias = Callable[[Settings], Finding]
#: In the order in which things depend on each other.
CHECKS: dict[str, Check] = {
    "database": database,
    "tables": tables,
    "requirements": requirements,
    "broker": broker,
    "S3": s3,
    "buckets": postponed,
    "event queue": events,
    "queues": queues,
    "API keys": keys,
    "workers": workers,
    "profiles": profiles,
    "models": models,
    "device": device,
    "formats": formats,
    "decoders": decoders,
    "disk": disk,
}
_STYLES = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}


@command("doctor", "dpiqa doctor", "dpiqa doctor --json")
def doctor(as_json: options.JsonOption = False) -> None:
    """Check settings, servers, events, queues, keys, workers, profiles, models, device, decoders, disk.

    Exits with status 1 on a failure.
    """
    with console.stderr().status("checking"):
        findings = examine()
    if as_json:
        console.print_json("finding@1", findings)
    else:
        rows = [
            (console.plain(finding.level, _STYLES[finding.level]), finding.name, finding.message, finding.hint)
            for finding in findings
        ]
        console.table(("", "part", "finding", "hint"), rows)
    if any(finding.level is Level.FAIL for finding in findings):
        raise typer.Exit(ExitCode.INCOMPLETE)


def examine() -> list[Finding]:
    """Return all findings, in the order of `CHECKS`. Never raises."""
    try:
        settings = context.read_settings()
    except ConfigurationError as error:
        return [fail("settings", error.message, error.hint)]

    def run(name: str) -> Finding:
        try:
            return CHECKS[name](settings)
        except DpiqaError as error:
            return fail(name, error.message, error.hint)
        except Exception as error:
            return fail(name, first_line(error), "this is unexpected; please report it")

    with ThreadPoolExecutor(len(CHECKS)) as threads:
        findings = threads.map(run, CHECKS)
        return [ok("settings", "all read; `dpiqa config show` lists them"), *findings]
