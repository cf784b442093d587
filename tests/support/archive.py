"""A folder of objects with a database and a doorbell, for tests of workers without Celery and S3."""

import threading
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
from sqlalchemy import text

from dpiqa.doorbell import Queue
from dpiqa.imaging.decode import Limits
from dpiqa.imaging.pool import DecodePool
from dpiqa.models.loading import load_scorer
from dpiqa.pipeline.lister import Lister
from dpiqa.pipeline.scorer_cache import LoadedScorers
from dpiqa.pipeline.worker import Worker
from dpiqa.profiles import load_profile
from dpiqa.settings import load_settings
from dpiqa.storage.engine import make_engine, transaction
from dpiqa.storage.images import add_images
from dpiqa.storage.jobs import create_job
from dpiqa.types import JobKind, Stage
from support.doorbells import RecordingDoorbell
from support.folder_store import FolderStore
from support.photos import png


@pytest.fixture
def settings():
    return load_settings(
        profile="smoke",
        batch_size=4,
        teacher_batch_size=4,
        decode_processes=1,
        fetch_threads=2,
        max_image_bytes=10**7,
        lease_seconds=5,
        chunk_items=8,
    )


@pytest.fixture
def engine(database_url):
    engine = make_engine(database_url, pool_size=4)
    yield engine
    engine.dispose()


@pytest.fixture
def doorbell():
    return RecordingDoorbell()


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "objects"
    path.mkdir()
    return path


@pytest.fixture
def store(folder):
    return FolderStore(folder)


class SharedDecoder:
    """A decode pool that outlives the workers of one test."""

    def __init__(self, pool):
        self.submit, self.submit_measured = pool.submit, pool.submit_measured

    def close(self):
        pass


@pytest.fixture(scope="module")
def decoder():
    with DecodePool(1, Limits()) as pool:
        yield SharedDecoder(pool)


@pytest.fixture
def archive(engine, doorbell, settings, folder, store, decoder):
    """Give functions that add images, read the database and make workers on a folder of objects."""
    with ExitStack() as stack:
        yield Archive(engine, doorbell, settings, folder, store, decoder, stack)


class Archive(SimpleNamespace):
    def __init__(self, engine, doorbell, settings, folder, store, decoder, stack):
        super().__init__(
            engine=engine,
            doorbell=doorbell,
            settings=settings,
            folder=folder,
            store=store,
            decoder=decoder,
            stack=stack,
        )
        self.job = None

    def add(self, levels, profile="smoke"):
        """Add one image per level to a job; return the item ids."""
        for number, level in enumerate(levels):
            (self.folder / f"{number:03}.png").write_bytes(png(level))
        return self.submit(profile)

    def submit(self, profile="smoke"):
        if isinstance(profile, str):
            profile = load_profile(profile)
        refs = [ref for page in self.store.list("bucket", "") for ref in page]
        with transaction(self.engine) as c:
            self.job = create_job(c, kind=JobKind.WATCH, bucket="bucket", prefix="", profile=profile, queue=Queue.LIVE)
            return add_images(c, self.job, refs)

    def worker(self, stage=Stage.STUDENT, *, load=load_scorer):
        worker = Worker(
            self.settings,
            stage,
            engine=self.engine,
            store=self.store,
            doorbell=self.doorbell,
            decoder=self.decoder,
            scorers=LoadedScorers(self.settings, stage, self.engine, load=load),
        )
        self.stack.callback(worker.close)
        return worker

    def list_job(self, job_id, store=None, stopping=None):
        lister = Lister(self.engine, store or self.store, self.doorbell, self.settings, stopping or threading.Event())
        lister.list_job(str(job_id))

    def rows(self, query, **values):
        with transaction(self.engine) as c:
            return c.execute(text(query), values).all()

    def in_thread(self, function, *args):
        thread = threading.Thread(target=function, args=args)
        thread.start()
        self.stack.callback(thread.join)
        return thread
