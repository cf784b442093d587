"""Fetching and decoding of objects: fetch threads, then the decode pool, with a bound on the bytes in between.

Buckets have each their own part of the threads, so that a slow one holds up no other, and their jobs take turns. Images
of events go first.
"""

import hashlib
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from dpiqa.imaging.decode import Limits
from dpiqa.imaging.measured import Measures
from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.imaging.renditions import rendition_of
from dpiqa.objects.store import Fetched
from dpiqa.pipeline.fair_pool import FairPool
from dpiqa.pipeline.scorers import BATCH_SIZE
from dpiqa.pipeline.stage_times import STAGES, Step
from dpiqa.settings import Settings
from dpiqa.types import ImageRef, Rendition

if TYPE_CHECKING:  # it imports the database, which `dpiqa score` does without
    from dpiqa.pipeline.buckets import Buckets

SLOW_SECONDS = 2.0  #: after which a fetch is late; a bucket that has many late fetches is slow
LATEST = 8  #: fetches that were all quick make a slow bucket an ordinary one again
BATCHES_AHEAD = 4  #: decoded images, in batches of the device, beyond which no object is fetched
#: Threads per thread that a bucket may use: so many buckets may be slow before others have fewer threads.
SHARES = 4

#: Pixels of one image, (H, W, 3) uint8, as each preprocessing makes them; or the error of the decoder.
Pixels = dict[Preprocessing, "Future[np.ndarray]"]


class FetchedImage:
    """The bytes of one object. They count against the preparer's bound until they are decoded or released."""

    def __init__(
        self, fetched: Fetched, rendition: Rendition, content_hash: bytes | None, on_release: Callable[[], None]
    ) -> None:
        self.data = fetched.data
        self.etag, self.version_id = fetched.etag, fetched.version_id
        self.rendition = rendition  #: what of the bytes is decoded
        self.content_hash = content_hash  #: SHA-256 of the bytes; None where bytes are not compared
        self.measures: Measures | None = None  #: of the decoded picture, once it is decoded, if they were asked for
        self._on_release: Callable[[], None] | None = on_release

    def release(self) -> None:
        """Free the bytes. Once is enough."""
        on_release, self._on_release = self._on_release, None
        if on_release is not None:
            self.data = b""
            on_release()


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """One image that was read, while it is decoded."""

    pixels: Pixels
    image: FetchedImage  #: whose bytes are free once it is decoded


class Reader(Protocol):
    """The part of an `ObjectStore` that reads objects."""

    def get(self, ref: ImageRef, max_bytes: int) -> Fetched:
        """See `ObjectStore.get`."""


class Decoder(Protocol):
    """The part of `dpiqa.imaging.pool.DecodePool` that decodes."""

    def submit(self, data: bytes, preprocessing: Preprocessing) -> "Future[np.ndarray]":
        """Decode and preprocess in another process."""

    def submit_measured(
        self, data: bytes, preprocessing: Preprocessing
    ) -> "Future[tuple[np.ndarray, Measures | None]]":
        """Do the same, and measure the decoded picture."""


class Preparer:
    """Fetches and decodes images concurrently. Shared by all chunks of a process.

    `buckets`: told of each fetch, and asked before it; without, no bucket is ever postponed.
    `backlog`: number of images that wait for the device. Where it is long, no further object is fetched, and but a few
    of events, until `fetch_more`.
    """

    def __init__(
        self,
        store: Reader,
        decoder: Decoder,
        settings: Settings,
        *,
        hashes: bool = False,
        buckets: "Buckets | None" = None,
        backlog: Callable[[], int] = lambda: 0,
    ) -> None:
        self._backlog, self._n_held = backlog, 0
        self._max_decoded = BATCHES_AHEAD * max(settings.batch_size or BATCH_SIZE, settings.teacher_batch_size)
        self._store, self._decoder, self._max_bytes = store, decoder, settings.max_image_bytes
        self._limits = Limits.from_settings(settings)
        self._hashes = hashes  # whether bytes are compared
        self._buckets = buckets
        self._per_bucket = settings.fetch_threads
        self._n_threads = SHARES * settings.fetch_threads
        # Images fetched and not yet decoded, or being fetched: enough to keep every decoder busy, few enough to bound
        # memory. Those of slow buckets have a bound of their own.
        self._max_undecoded = settings.fetch_threads + 2 * settings.decode_processes
        self._lock = threading.Lock()
        self._n_fetched = 0
        self._slow: dict[str, deque[float]] = {}  # by bucket: how long its latest fetches took
        self._fetchers: FairPool[tuple[str, str]] = FairPool(self._n_threads, has_room=self._has_room, name="fetch")

    def fetch(self, ref: ImageRef, job: str = "", *, urgent: bool = False) -> "Future[FetchedImage]":
        """Fetch one object, when it is the turn of its bucket and job; an urgent one before those that wait.

        The future ends in `FetchedImage`, to be decoded or released, or with an error of `ObjectStore.get`, or with
        `StoreUnavailable` for a postponed bucket. It can be cancelled until its fetch starts.
        """
        return self._fetchers.submit((ref.bucket, job), self._fetch, ref, urgent=urgent)

    def slow_buckets(self) -> set[str]:
        """Return the buckets with at least half of their threads in late fetches, until they are quick again."""
        n_late: Counter[str] = Counter()
        for (bucket, _), ages in self._fetchers.ages().items():
            n_late[bucket] += sum(age >= SLOW_SECONDS for age in ages)
        with self._lock:
            for bucket, n in n_late.items():
                if 2 * n >= self._per_bucket and bucket not in self._slow:
                    self._slow[bucket] = deque(maxlen=LATEST)
            for bucket, latest in list(self._slow.items()):
                if not n_late.get(bucket) and len(latest) == LATEST and max(latest) < SLOW_SECONDS / 2:
                    del self._slow[bucket]
            return set(self._slow)

    def is_stuck(self, fetching: "Mapping[Future[FetchedImage], str]") -> bool:
        """Return whether each of these fetches, with its bucket, is late, or waits behind late ones."""
        slow = self.slow_buckets()
        for future, bucket in fetching.items():
            age = self._fetchers.age(future)
            if future.done() or (bucket not in slow if age is None else age < SLOW_SECONDS):
                return False
        return True

    def decode(
        self, image: FetchedImage, preprocessings: Iterable[Preprocessing], *, is_measured: bool = False
    ) -> Pixels:
        """Decode an image in its rendition, once for each preprocessing, then release its bytes.

        `is_measured`: the image has its measures when any of the pixels are there.
        """
        pixels: Pixels = {preprocessing: Future() for preprocessing in preprocessings}
        left = len(pixels)
        lock = threading.Lock()

        def count_down(_: "Future[np.ndarray]") -> None:
            nonlocal left
            with lock:
                left -= 1
                is_last = left == 0
            if is_last:
                image.release()

        for preprocessing, result in pixels.items():
            result.add_done_callback(count_down)
            rendered = preprocessing.rendered(image.rendition)
            try:
                if is_measured:
                    self._decoder.submit_measured(image.data, rendered).add_done_callback(_passing_on(result, image))
                else:
                    self._decoder.submit(image.data, rendered).add_done_callback(_passing_on(result))
            except BaseException as error:  # the future carries it to the chunk
                result.set_exception(error)
        return pixels

    def submit(
        self, ref: ImageRef, preprocessings: Iterable[Preprocessing], *, is_measured: bool = False
    ) -> "Future[PreparedImage]":
        """Fetch one object and begin to decode it, as `decode` does.

        The future ends in `PreparedImage`, or with an error of `ObjectStore.get`. It can be cancelled until its fetch
        starts.
        """
        result: Future[PreparedImage] = Future()

        def begin(fetching: "Future[FetchedImage]") -> None:
            try:
                image = fetching.result()
                result.set_result(PreparedImage(self.decode(image, preprocessings, is_measured=is_measured), image))
            except CancelledError:
                result.cancel()
            except BaseException as error:
                result.set_exception(error)

        self.fetch(ref).add_done_callback(begin)
        return result

    def close(self) -> None:
        """End the fetch threads; images whose fetch has not started are cancelled."""
        self._fetchers.close()

    def hold(self, n: int) -> None:
        """Count images that their chunk has not passed on to the device, from before they are decoded."""
        with self._lock:
            self._n_held += n

    def pass_on(self, n: int) -> None:
        """Count them as passed on, or dropped."""
        with self._lock:
            self._n_held -= n
        self.fetch_more()

    def fetch_more(self) -> None:
        """Go on: fewer images wait for the device."""
        self._fetchers.start()

    def _has_room(self, group: tuple[str, str], running: Mapping[tuple[str, str], int], urgent: bool) -> bool:
        """Return whether another object of the bucket may be fetched."""
        bucket, _ = group
        if self._n_held + self._backlog() >= (2 if urgent else 1) * self._max_decoded:
            return False
        n_running = sum(n for (name, _), n in running.items() if name == bucket)
        if self._buckets is not None and self._buckets.is_probed(bucket):
            return n_running < 1
        if n_running >= self._per_bucket:
            return False
        with self._lock:
            n_slow = sum(n for (name, _), n in running.items() if name in self._slow)
            if bucket in self._slow:
                return 2 * n_slow < self._n_threads
            return self._n_fetched + sum(running.values()) - n_slow < self._max_undecoded

    def _fetch(self, ref: ImageRef) -> FetchedImage:
        if self._buckets is not None:
            self._buckets.require_open(ref.bucket)
        started = time.monotonic()
        try:
            with STAGES.time(Step.FETCH):
                fetched = self._store.get(ref, self._max_bytes)
        except BaseException as error:
            self._observe(ref.bucket, started, error)
            raise
        self._observe(ref.bucket, started, None)
        rendition = rendition_of(fetched.data, self._limits)
        content_hash = hashlib.sha256(fetched.data).digest() if self._hashes else None
        with self._lock:
            self._n_fetched += 1
        return FetchedImage(fetched, rendition, content_hash, self._free)

    def _observe(self, bucket: str, started: float, error: BaseException | None) -> None:
        with self._lock:
            if bucket in self._slow:
                self._slow[bucket].append(time.monotonic() - started)
        if self._buckets is not None:
            self._buckets.observe(bucket, error)

    def _free(self) -> None:
        """Count an image as decoded or released."""
        with self._lock:
            self._n_fetched -= 1
        self._fetchers.start()


def _passing_on(result: "Future[np.ndarray]", measured: FetchedImage | None = None) -> "Callable[[Future[Any]], None]":
    """Return a callback that gives `result` the pixels that a decoding ends in, `measured` the measures, and times it.

    The decoding ends in pixels, or with `measured` in pixels and measures.
    """
    started = time.perf_counter()

    def finish(decoding: "Future[Any]") -> None:
        STAGES.add(Step.DECODE, time.perf_counter() - started)
        try:
            if measured is None:
                pixels = decoding.result()
            else:
                pixels, measured.measures = decoding.result()
            result.set_result(pixels)
        except CancelledError:
            result.set_exception(RuntimeError("the decoder was closed"))
        except BaseException as error:
            result.set_exception(error)

    return finish
