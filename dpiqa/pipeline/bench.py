"""Where the time of a run goes, step by step, and what bounds its speed: `dpiqa bench`."""

import io
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from queue import SimpleQueue
from typing import Self, cast

import numpy as np
import psutil
from PIL import Image
from sqlalchemy import Engine, func, select

from dpiqa.doorbell import Doorbell, Queue
from dpiqa.imaging.decode import Limits
from dpiqa.imaging.pool import DecodePool
from dpiqa.models.base import ModelCard, Scorer
from dpiqa.models.choice import ModelChoice
from dpiqa.objects.store import Fetched, ObjectStore
from dpiqa.pipeline.bottleneck import Bottleneck, Shares, StepFigures, judge
from dpiqa.pipeline.device import Device, batched
from dpiqa.pipeline.preparer import PreparedImage, Preparer, Reader
from dpiqa.pipeline.scorer_cache import LoadedScorers
from dpiqa.pipeline.scorers import LoadedScorer, batch_size, warm_up
from dpiqa.pipeline.slots import CHUNKS_AT_ONCE
from dpiqa.pipeline.stage_times import STAGES, Snapshot, Step, StepTotals
from dpiqa.pipeline.worker import Worker
from dpiqa.profiles import Profile
from dpiqa.settings import Settings
from dpiqa.storage import tables
from dpiqa.storage.engine import transaction
from dpiqa.storage.images import add_images
from dpiqa.storage.jobs import create_job
from dpiqa.types import ImageRef, ItemState, JobKind, Stage

IN_WORK = 128  #: images at once without a ledger: as many as the chunks that a worker has in work
PAGE = 1000  #: images that are added to the ledger at once

#: Scores objects; yields how many more were scored, and how many were not.
ScoreAll = Callable[[Iterator[ImageRef]], Iterator[tuple[int, int]]]


class SimulatedScorer:
    """A device of a set speed in place of a model: it takes its time for each batch, and no processor time."""

    def __init__(self, card: ModelCard, rate: float) -> None:
        self.card = card
        self.rate = rate  #: images per second

    def score(self, pixels: np.ndarray) -> np.ndarray:
        """See `Scorer.score`; every score is 0.5."""
        time.sleep(len(pixels) / self.rate)
        return np.full(len(pixels), 0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchReport:
    """The figures of a run."""

    scorer_id: str
    simulated_rate: float | None  #: images per second of the simulated device; None: the model ran
    images: int  #: that were scored
    failed: int  #: that were not
    seconds: float
    images_per_second: float
    cpu_ms: float  #: processor milliseconds per image, of this process and all that it started
    cpu_ms_beside_model: float
    cpu_ms_postgres: float | None  #: of it: by Postgres; None without a ledger
    cores: int
    cpu_busy: float  #: share of the cores that the run used, 0-1
    machine_busy: float  #: share of the cores that all programs used, this run included, 0-1
    device_busy: float  #: share of the time in which a batch was on the device, 0-1
    batch_fill: float | None  #: share of the batches' places that were taken, 0-1
    queue_delay_ms: float | None  #: mean wait of a decoded image for its batch
    steps: tuple[StepFigures, ...]
    bottleneck: Bottleneck
    verdict: str  #: what bounds the speed, in one sentence
    next_setting: str  #: what to change next, in one sentence


def bench(
    store: Reader,
    refs: Iterable[ImageRef],
    choice: ModelChoice,
    scorer: Scorer,
    settings: Settings,
    *,
    ledger: Engine | None = None,
    step: Callable[[int], object] = lambda _: None,
) -> BenchReport:
    """Score objects as a worker does, and say where the time went.

    Args:
        store: where the objects are read.
        refs: the objects.
        choice: the model.
        scorer: the same, in memory, or a simulated one.
        settings: threads, processes and sizes of batches.
        ledger: an empty ledger to record into; None: as `dpiqa score`, without one.
        step: is told how many images have ended.

    Raises `StoreUnavailable`, `DatabaseUnavailable`.
    """
    warm_up(scorer, batch_size(scorer, settings))
    running = (
        _scoring(store, scorer, settings) if ledger is None else _recording(store, choice, scorer, settings, ledger)
    )
    with running as score_all:
        before, used_before, began = STAGES.snapshot(), Processors.now(), time.perf_counter()
        psutil.cpu_percent()  # of the machine, from here on
        n_scored = n_failed = 0
        for n_new, n_new_failed in score_all(_counted(refs)):
            n_scored, n_failed = n_scored + n_new, n_failed + n_new_failed
            step(n_new + n_new_failed)
        seconds = time.perf_counter() - began
        run, used, machine = STAGES.snapshot() - before, Processors.now() - used_before, psutil.cpu_percent() / 100
    return report(
        run,
        used,
        machine_busy=machine,
        seconds=seconds,
        scored=n_scored,
        failed=n_failed,
        scorer=scorer,
        settings=settings,
    )


def _counted(refs: Iterable[ImageRef]) -> Iterator[ImageRef]:
    """Yield the objects, and count the time that listing takes."""
    iterator = iter(refs)
    while True:
        began, cpu_began = time.perf_counter(), time.thread_time()
        ref = next(iterator, None)
        if ref is None:
            return
        STAGES.add(Step.LIST, time.perf_counter() - began, cpu_seconds=time.thread_time() - cpu_began)
        yield ref


@contextmanager
def _scoring(store: Reader, scorer: Scorer, settings: Settings) -> Iterator[ScoreAll]:
    """Start the threads and processes of `dpiqa score`."""
    with (
        DecodePool(settings.decode_processes, Limits.from_settings(settings)) as decoder,
        closing(Preparer(store, decoder, settings)) as preparer,
        closing(Device()) as device,
    ):
        _start(decoder, scorer, settings)
        yield partial(_score, preparer, device, LoadedScorer(scorer, batch_size(scorer, settings)))


def _start(decoder: DecodePool, scorer: Scorer, settings: Settings) -> None:
    """Start all decode processes, by a picture for each."""
    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "PNG")
    for future in [
        decoder.submit(picture.getvalue(), scorer.card.preprocessing) for _ in range(settings.decode_processes)
    ]:
        future.result()


def _score(
    preparer: Preparer, device: Device, loaded: LoadedScorer, refs: Iterator[ImageRef]
) -> Iterator[tuple[int, int]]:
    """Score what `refs` name, each object through the device as soon as it is decoded."""
    ended: SimpleQueue[tuple[int, int]] = SimpleQueue()  # as yielded
    preprocessing = loaded.card.preprocessing

    def fetched(future: "Future[PreparedImage]") -> None:
        if future.exception() is None:
            future.result().pixels[preprocessing].add_done_callback(decoded)
        else:
            ended.put((0, 1))

    def decoded(future: "Future[np.ndarray]") -> None:
        if future.exception() is None:
            device.submit(loaded, future.result()).add_done_callback(scored)
        else:
            ended.put((0, 1))

    def scored(future: "Future[float]") -> None:
        ended.put((1, 0) if future.exception() is None else (0, 1))

    in_work = 0
    for ref in refs:
        preparer.submit(ref, [preprocessing]).add_done_callback(fetched)
        in_work += 1
        while in_work >= IN_WORK or not ended.empty():
            yield ended.get()
            in_work -= 1
    for _ in range(in_work):
        yield ended.get()


class _AsStore:
    """A reader of objects as a worker's store. Objects of a ledger have a bucket, also where files have none."""

    FILES = "files"

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def get(self, ref: ImageRef, max_bytes: int) -> Fetched:
        """See `ObjectStore.get`; whatever bytes are there are those that were asked for."""
        bucket = "" if ref.bucket == self.FILES else ref.bucket
        return replace(self._reader.get(ImageRef(bucket=bucket, key=ref.key, etag=""), max_bytes), etag=ref.etag)


@contextmanager
def _recording(
    store: Reader, choice: ModelChoice, scorer: Scorer, settings: Settings, ledger: Engine
) -> Iterator[ScoreAll]:
    """Start a worker that records into the ledger."""
    settings = settings.model_copy(update={"reuse_bytes": False})
    profile = Profile(name="bench", version=1, student=choice)
    worker = Worker(
        settings,
        Stage.STUDENT,
        engine=ledger,
        store=cast("ObjectStore", _AsStore(store)),
        doorbell=cast("Doorbell", _Silent()),
        decoder=DecodePool(settings.decode_processes, Limits.from_settings(settings)),
        scorers=LoadedScorers(settings, Stage.STUDENT, ledger, load=lambda _: scorer),
    )
    with closing(worker), ThreadPoolExecutor(CHUNKS_AT_ONCE[Stage.STUDENT]) as chunks:
        worker.scorers.load_default(profile)
        _start(worker.decoder, scorer, settings)
        yield partial(_record, worker, profile, chunks)


def _record(
    worker: Worker, profile: Profile, chunks: ThreadPoolExecutor, refs: Iterator[ImageRef]
) -> Iterator[tuple[int, int]]:
    """Add what `refs` name to a job, and work on it chunk by chunk; what failed is known at the end."""
    with transaction(worker.engine) as c:
        job = create_job(
            c, kind=JobKind.LIST, bucket=_AsStore.FILES, prefix="", profile=profile, queue=Queue.BULK, keys=["bench"]
        )
    working: list[Future[int]] = []
    for page in batched(refs, PAGE):
        named = [ImageRef(bucket=ref.bucket or _AsStore.FILES, key=ref.key, etag="bench") for ref in page]
        with STAGES.time(Step.LIST, images=0), transaction(worker.engine) as c:
            items = add_images(c, job, named)
        chunk_items = worker.settings.chunk_items
        working += [chunks.submit(worker.score, ids, Queue.BULK) for ids in batched(items, chunk_items)]
    for chunk in working:
        yield chunk.result(), 0
    with transaction(worker.engine) as c:
        is_unscored = tables.items.c.state != ItemState.SCORED.value
        failed = c.execute(select(func.count()).select_from(tables.items).where(is_unscored)).scalar_one()
    yield -failed, failed  # they were counted with their chunks


class _Silent:
    """A doorbell for a worker whose chunks are handed to it."""

    def __getattr__(self, name: str) -> Callable[..., int]:
        return lambda *_: 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Processors:
    """Processor seconds of this process and of all that it started and that still run."""

    own: float
    native: float  #: of the own: by threads that are not Python's, those of torch
    decoders: float
    postgres: float
    others: float

    @classmethod
    def now(cls) -> Self:
        """Return the seconds so far."""
        process = psutil.Process()
        python = {thread.native_id for thread in threading.enumerate()}
        native = sum(thread.user_time + thread.system_time for thread in process.threads() if thread.id not in python)
        seconds = {"decoders": 0.0, "postgres": 0.0, "others": 0.0}
        for child in process.children(recursive=True):
            with suppress(psutil.Error):
                times, words = child.cpu_times(), " ".join(child.cmdline())
                kind = "decoders" if "dpiqa.imaging" in words else "postgres" if "postgres" in words else "others"
                seconds[kind] += times.user + times.system
        return cls(own=time.process_time(), native=native, **seconds)

    def __sub__(self, earlier: Self) -> Self:
        """Return what came after."""
        return replace(
            self, **{each.name: getattr(self, each.name) - getattr(earlier, each.name) for each in fields(self)}
        )

    @property
    def total(self) -> float:
        """All of them."""
        return self.own + self.decoders + self.postgres + self.others


def report(
    run: Snapshot,
    used: Processors,
    *,
    machine_busy: float,
    seconds: float,
    scored: int,
    failed: int,
    scorer: Scorer,
    settings: Settings,
) -> BenchReport:
    """Make the figures of a run from what was counted."""
    cores, n_images = os.cpu_count() or 1, max(scored + failed, 1)
    places = {
        Step.FETCH: settings.fetch_threads,
        Step.DECODE: settings.decode_processes,
        Step.CLAIM: CHUNKS_AT_ONCE[Stage.STUDENT],
        Step.RECORD: CHUNKS_AT_ONCE[Stage.STUDENT],
    }
    cpu_of = {step: totals.cpu_seconds for step, totals in run.steps.items()}
    cpu_of[Step.MODEL] += used.native
    cpu_of[Step.DECODE] += used.decoders
    steps = tuple(
        _figures(step, totals, cpu_of[step], places.get(step, 1), seconds)
        for step, totals in run.steps.items()
        if totals.calls
    )
    shares = Shares(
        cpu_busy=min(1.0, used.total / (seconds * cores)),
        machine_busy=machine_busy,
        device_busy=min(1.0, run.steps[Step.MODEL].seconds / seconds),
        batch_fill=run.batch_fill,
    )
    rate = scorer.rate if isinstance(scorer, SimulatedScorer) else None
    n_batches = run.steps[Step.MODEL].calls
    bottleneck, verdict, next_setting = judge(
        steps,
        shares,
        settings,
        cores=cores,
        batch=batch_size(scorer, settings),
        n_batches=n_batches,
        simulated_rate=rate,
    )
    return BenchReport(
        scorer_id=scorer.card.scorer_id,
        simulated_rate=rate,
        images=scored,
        failed=failed,
        seconds=seconds,
        images_per_second=n_images / seconds,
        cpu_ms=1000 * used.total / n_images,
        cpu_ms_beside_model=1000 * (used.total - cpu_of[Step.MODEL]) / n_images,
        cpu_ms_postgres=1000 * used.postgres / n_images if run.steps[Step.RECORD].images else None,
        cores=cores,
        queue_delay_ms=None if run.queue_delay is None else 1000 * run.queue_delay,
        steps=steps,
        bottleneck=bottleneck,
        verdict=verdict,
        next_setting=next_setting,
        **asdict(shares),
    )


def _figures(step: Step, totals: StepTotals, cpu_seconds: float, places: int, seconds: float) -> StepFigures:
    # A decode process's own time: the other includes the wait for it.
    worked = cpu_seconds if step is Step.DECODE else totals.seconds
    return StepFigures(
        step=step,
        images=totals.images,
        ms=1000 * totals.seconds / max(totals.images, 1),
        cpu_ms=1000 * cpu_seconds / max(totals.images, 1),
        busy=min(1.0, worked / (seconds * places)),
        images_per_second=totals.images * places / worked if worked > 0 else None,
    )
