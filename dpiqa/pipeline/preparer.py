"""From an object to prepared pixels: fetch threads, then the decode pool, with a bound on the bytes in between."""

import threading
import time
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.objects.store import Fetched
from dpiqa.pipeline import metrics
from dpiqa.types import ImageRef

#: ETag and version id of the bytes that were read.
Source = tuple[str, str | None]


@dataclass(frozen=True, slots=True)
class Prepared:
    """One image, ready for the device."""

    pixels: np.ndarray  #: (H, W, 3) uint8, as the preprocessing makes it
    etag: str  #: of the bytes that were read
    version_id: str | None


class Reader(Protocol):
    """What of an `ObjectStore` is needed here."""

    def get(self, ref: ImageRef, max_bytes: int) -> Fetched:
        """See `ObjectStore.get`."""


class Decoder(Protocol):
    """What `dpiqa.imaging.pool.DecodePool` offers."""

    def submit(self, data: bytes, preprocessing: Preprocessing) -> "Future[np.ndarray]":
        """Decode and prepare in another process."""


class Preparer:
    """Fetches and decodes images concurrently. Shared by all chunks of a process."""

    def __init__(
        self, store: Reader, decoder: Decoder, *, fetch_threads: int, decode_processes: int, max_bytes: int
    ) -> None:
        self._store, self._decoder, self._max_bytes = store, decoder, max_bytes
        self._fetchers = ThreadPoolExecutor(fetch_threads, thread_name_prefix="fetch")
        # Fetched and not yet decoded: enough to keep every decoder busy, few enough to bound memory.
        self._room = threading.BoundedSemaphore(fetch_threads + 2 * decode_processes)

    def submit(self, ref: ImageRef, preprocessing: Preprocessing) -> "Future[Prepared]":
        """Fetch and decode one image.

        The future ends in `Prepared`, or with an error of `ObjectStore.get` or the decoder.
        It can be cancelled until its fetch starts.
        """
        done: Future[Prepared] = Future()
        self._fetchers.submit(self._fetch, ref, preprocessing, done)
        return done

    def close(self) -> None:
        """End the fetch threads; what has not started is cancelled."""
        self._fetchers.shutdown(wait=True, cancel_futures=True)

    def _fetch(self, ref: ImageRef, preprocessing: Preprocessing, done: "Future[Prepared]") -> None:
        if not done.set_running_or_notify_cancel():
            return
        self._room.acquire()
        try:
            with metrics.stage("fetch"):
                fetched = self._store.get(ref, self._max_bytes)
            source: Source = fetched.etag, fetched.version_id  # not `fetched`: its bytes shall not outlive decoding
            started = time.perf_counter()
            decoding = self._decoder.submit(fetched.data, preprocessing)
        except BaseException as error:  # the future carries it to the chunk
            self._room.release()
            done.set_exception(error)
            return
        decoding.add_done_callback(lambda future: self._decoded(future, source, started, done))

    def _decoded(
        self, decoding: "Future[np.ndarray]", source: Source, started: float, done: "Future[Prepared]"
    ) -> None:
        self._room.release()
        metrics.SECONDS.labels("decode").observe(time.perf_counter() - started)
        try:
            done.set_result(Prepared(decoding.result(), *source))
        except CancelledError:
            done.set_exception(RuntimeError("the decoder was closed"))
        except BaseException as error:
            done.set_exception(error)
