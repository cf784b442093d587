"""The checks of `dpiqa doctor`: database, broker, S3, SQS, workers; models, torch and device, disk of this machine.

Each returns a finding or raises an error of ours, which becomes one. They run in threads of their own, so all that
they need is imported here at once: two threads that import one package at the same time get half of it.
"""

import shutil
from typing import TYPE_CHECKING

from sqlalchemy import text

from dpiqa.broker import is_redis, require_no_eviction
from dpiqa.cli.support import context
from dpiqa.cli.system.findings import Finding, fail, ok, warn
from dpiqa.errors import DpiqaError
from dpiqa.objects.s3 import S3Store
from dpiqa.objects.sqs import EventsQueue
from dpiqa.storage import schema
from dpiqa.storage import workers as storage_workers
from dpiqa.storage.job_queries import list_jobs
from dpiqa.storage.requirements import find
from dpiqa.types import ModelKind, Stage
from dpiqa.urls import mask_url

if TYPE_CHECKING:
    from dpiqa.settings import Settings


def database(settings: "Settings") -> Finding:
    """Whether Postgres answers."""
    url = settings.require_database_url()
    with context.connection(settings) as connection:
        version = connection.execute(text("SHOW server_version")).scalar_one()
    if int(str(version).split(".", maxsplit=1)[0]) < 14:
        return fail("database", f"Postgres {version} is too old", "use Postgres 14 or newer")
    return ok("database", f"Postgres {version} at {mask_url(url)}")


def tables(settings: "Settings") -> Finding:
    """Whether the tables are those of this version."""
    with context.database(settings) as engine:
        state = schema.state(engine)
    return ok("tables", f"at {state.current}") if state.is_current else fail("tables", str(state), state.hint)


def requirements(settings: "Settings") -> Finding:
    """Whether the requirements that the profile scores by are ready."""
    profile = context.profile(settings)
    names = [choice.requirement for choice in profile.choices.values() if choice.requirement]
    if not names:
        return ok("requirements", f"profile {profile.id} needs none")
    with context.connection(settings) as connection:
        found = [find(connection, name) for name in names]
    return ok("requirements", ", ".join(f"{one.id}: {one.direction}" for one in found))


def broker(settings: "Settings") -> Finding:
    """Whether Redis answers, and keeps what it is given."""
    url = settings.require_broker_url()
    if not is_redis(url):
        return warn("broker", f"{mask_url(url)} is not a Redis: not checked", "check that it answers")
    info = require_no_eviction(url)
    return ok("broker", f"{info.product} {info.version} at {mask_url(url)}, policy {info.eviction_policy}")


def s3(settings: "Settings") -> Finding:
    """Whether S3 answers, and lists the buckets of the latest jobs."""
    where = settings.s3_endpoint_url or f"AWS, {settings.aws_region}"
    store = S3Store.from_settings(settings)
    buckets = _known_buckets(settings)
    if buckets:
        for bucket in buckets:
            next(iter(store.list(bucket, "")), None)
        return ok("S3", f"{where} lists {', '.join(buckets)}")
    names = store.bucket_names()
    if names is None:
        return ok("S3", f"{where} answers, and does not let us list all buckets, which is fine")
    return ok("S3", f"{where} answers, {len(names)} bucket(s)")


def _known_buckets(settings: "Settings") -> list[str]:
    """Buckets of the latest jobs; none where the database cannot say: that is another check's finding."""
    try:
        with context.connection(settings) as connection:
            return sorted({job.bucket for job in list_jobs(connection, limit=20, cursor=None).items})
    except DpiqaError:
        return []


def events(settings: "Settings") -> Finding:
    """Whether the SQS queue of the listener is there."""
    if not settings.queue_url:
        hint = "set DPIQA_QUEUE_URL to score objects as they arrive; `dpiqa submit` works without"
        return warn("event queue", "none is configured: nothing is scored on arrival", hint)
    waiting = EventsQueue(settings).depth()
    return ok("event queue", f"{settings.queue_url}, about {waiting} message(s) waiting")


def workers(settings: "Settings") -> Finding:
    """Whether both models of the profile are served."""
    with context.connection(settings) as connection:
        alive = storage_workers.live_workers(connection)
    needed = [Stage.STUDENT] + ([Stage.TEACHER] if context.profile(settings).teacher else [])
    missing = [stage.value for stage in needed if not any(worker.stage == stage for worker in alive)]
    if missing:
        hint = "start " + " and ".join(f"`dpiqa worker {stage}`" for stage in missing)
        return warn("workers", f"no {' and no '.join(missing)} worker is alive: submitted work waits", hint)
    served = {worker.stage: worker.scorer_id for worker in alive}
    mixed = sorted({worker.stage.value for worker in alive if worker.scorer_id != served[worker.stage]})
    if mixed:
        message = f"{' and '.join(mixed)} workers serve different scorers"
        return warn("workers", message, "give all workers the same version, models and precision")
    return ok("workers", ", ".join(f"{worker.stage} {worker.host}:{worker.pid}" for worker in alive))


_ENOUGH_BYTES = 2 * 1024**3


def models(settings: "Settings") -> Finding:
    """Whether the profile's models are here, undamaged."""
    from dpiqa.models.cards import list_cards, verify
    from dpiqa.pipeline.scorers import check_profile

    profile = context.profile(settings)
    check_profile(profile, settings)
    cards = list_cards(settings.models_dir)
    for card in cards:
        verify(card, settings.models_dir)
    return ok("models", f"profile {profile.id}; verified: {', '.join(card.name for card in cards)}")


def device(settings: "Settings") -> Finding:
    """Whether torch is here and what it would compute on."""
    try:
        import torch

        from dpiqa.models.torch_scorer import choose_device
    except ImportError as error:
        message = f"{error.name} is not installed: this machine cannot run `dpiqa score` or workers"
        return _without_torch(settings, message)
    chosen = choose_device(settings.device)
    if chosen.type == "cuda":
        return ok("device", f"torch {torch.__version__}, {torch.cuda.get_device_name(chosen)}")
    return ok("device", f"torch {torch.__version__}, CPU, {settings.threads or torch.get_num_threads()} threads")


def _without_torch(settings: "Settings", message: str) -> Finding:
    from dpiqa.models.cards import find_card

    profile = context.profile(settings)
    cards = [find_card(choice.model, settings.models_dir) for choice in profile.choices.values()]
    if all(card.kind is ModelKind.PIXELS for card in cards):
        return ok("device", f"torch is not here; profile {profile.id} does not need it")
    return warn("device", message, "pip install 'dpiqa[models]' where scoring is wanted")


def disk(settings: "Settings") -> Finding:
    """Whether there is room for the embedded stack's data."""
    folder = settings.home
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    message = f"{free / 1024**3:.1f} GiB free at {folder}"
    if free < _ENOUGH_BYTES // 4:
        return fail("disk", message, "free some space, or set DPIQA_HOME to a larger disk")
    return ok("disk", message) if free >= _ENOUGH_BYTES else warn("disk", message, "free some space soon")
