"""What one worker process owns: connections, models, threads. Made once, before the worker takes its first message."""

import os
import socket
import threading
import uuid
from dataclasses import dataclass

import structlog
from sqlalchemy import Engine

from dpiqa.doorbell import Doorbell, load_doorbell
from dpiqa.errors import DatabaseUnavailable
from dpiqa.imaging.limits import Limits
from dpiqa.imaging.pool import DecodePool
from dpiqa.models.base import Scorer
from dpiqa.models.choice import ModelChoice
from dpiqa.objects.s3 import S3Store
from dpiqa.objects.store import ObjectStore
from dpiqa.pipeline.chunk import Machinery
from dpiqa.pipeline.device import Device
from dpiqa.pipeline.feeder import Feeder
from dpiqa.pipeline.loaded_scorers import ModelShelf
from dpiqa.pipeline.pipeline import Pipeline
from dpiqa.pipeline.preparer import Preparer
from dpiqa.pipeline.scorer_loading import batch_size, load_chosen
from dpiqa.pipeline.startup import require_schema, wait_for
from dpiqa.profiles import Profile, load_profile
from dpiqa.settings import Settings
from dpiqa.storage.engine import make_engine, transaction
from dpiqa.storage.profiles import read_profile
from dpiqa.storage.workers import heartbeat, leave
from dpiqa.types import Stage

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Room:
    """All that the tasks of one process use."""

    settings: Settings
    engine: Engine
    store: ObjectStore
    doorbell: Doorbell
    decoder: DecodePool
    machinery: Machinery
    owner: str
    pipeline: Pipeline
    feeder: Feeder
    stopping: threading.Event

    def stop(self) -> None:
        """Take on nothing more; give back what has not reached the device."""
        self.stopping.set()
        self.pipeline.stop()

    def close(self) -> None:
        """End all threads and processes. Call when no task runs any more."""
        self.stop()
        self.feeder.close()
        self._say_goodbye()
        self.machinery.preparer.close()
        self.machinery.device.close()
        self.decoder.close()
        self.pipeline.close()
        self.engine.dispose()

    def _say_goodbye(self) -> None:
        try:
            with transaction(self.engine) as c:
                leave(c, self.owner)
        except DatabaseUnavailable as error:
            log.warning("not_signed_off", error=str(error))  # the heartbeat ends by itself


def open_room(settings: Settings, stage: Stage) -> Room:
    """Connect, load the default profile's model and start the threads, except the feeder's.

    Waits for a database that is away. Raises `ConfigurationError` or `NotFound` where waiting does not help.
    """
    engine = make_engine(settings.require_database_url(), application_name=f"dpiqa-{stage}")
    wait_for(lambda: require_schema(engine))
    shelf = _shelf(settings, stage, engine)
    scorer_id = _load_default(settings, shelf, stage)
    doorbell = load_doorbell(settings)
    store = S3Store.from_settings(settings)
    decoder = DecodePool(settings.decode_processes, Limits.from_settings(settings))
    preparer = Preparer(
        store,
        decoder,
        fetch_threads=settings.fetch_threads,
        decode_processes=settings.decode_processes,
        max_bytes=settings.max_image_bytes,
    )
    machinery = Machinery(preparer, Device(), shelf)
    owner = worker_id(stage)
    feeder = Feeder(engine, doorbell, settings, heartbeat=lambda: _beat(engine, owner, stage, scorer_id))
    pipeline = Pipeline(
        engine,
        stage=stage,
        owner=owner,
        settings=settings,
        machinery=machinery,
        doorbell=doorbell,
        nudge=feeder.nudge,
    )
    return Room(
        settings, engine, store, doorbell, decoder, machinery, owner, pipeline, feeder, stopping=threading.Event()
    )


def worker_id(stage: Stage) -> str:
    """Name this process, never to be used again: leases of a predecessor are not its own."""
    return f"{stage}@{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:6]}"


def _shelf(settings: Settings, stage: Stage, engine: Engine) -> ModelShelf:
    def load(choice: ModelChoice) -> Scorer:
        return load_chosen(choice, settings, lambda: transaction(engine), stage=stage)

    def find(profile_id: str) -> Profile:
        with transaction(engine) as c:
            return read_profile(c, profile_id)

    return ModelShelf(stage, load=load, find=find, max_batch=lambda card: batch_size(card, settings))


def _load_default(settings: Settings, shelf: ModelShelf, stage: Stage) -> str:
    """Load the model that most work will need, so that a worker that says it is ready is. Return its scorer id."""
    profile = load_profile(settings.profile, settings.profiles_dir)
    if stage is Stage.TEACHER and profile.teacher is None:
        log.info("no_default_model", profile=profile.id, stage=stage)
        return ""
    return shelf.model_of(profile).scorer_id


def _beat(engine: Engine, owner: str, stage: Stage, scorer_id: str) -> None:
    with transaction(engine) as c:
        heartbeat(c, owner, stage, scorer_id)
