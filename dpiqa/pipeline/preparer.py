"""Fetching and decoding of objects: fetch threads, then the decode pool, with a bound on the bytes in between."""

import threading
import time
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.objects.store import Fetched
from dpiqa.pipeline import metrics
from dpiqa.settings import Settings
from dpiqa.types import ImageRef


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """One image, ready for the device."""

    pixels: np.ndarray  #: (H, W, 3) uint8, as the preprocessing makes it
    etag: str  #: of the bytes that were read
    version_id: str | None


class Reader(Protocol):
    """The part of an `ObjectStore` that reads objects."""

    def get(self, ref: ImageRef, max_bytes: int) -> Fetched:
        """See `ObjectStore.get`."""


class Decoder(Protocol):
    """The part of `dpiqa.imaging.pool.DecodePool` that decodes."""

    def submit(self, data: bytes, preprocessing: Preprocessing) -> "Future[np.ndarray]":
        """Decode and preprocess in another process."""


class Preparer:
    """Fetches and decodes images concurrently. Shared by all chunks of a process."""

    def __init__(self, store: Reader, decoder: Decoder, settings: Settings) -> None:
        self._store, self._decoder, self._max_bytes = store, decoder, settings.max_image_bytes
        self._fetchers = ThreadPoolExecutor(settings.fetch_threads, thread_name_prefix="fetch")
        # Images fetched and not yet decoded: enough to keep every decoder busy, few enough to bound memory.
        self._undecoded = threading.BoundedSemaphore(settings.fetch_threads + 2 * settings.decode_processes)

    def submit(self, ref: ImageRef, preprocessing: Preprocessing) -> "Future[PreparedImage]":
        """Fetch and decode one image.

        The future ends in `PreparedImage`, or with an error of `ObjectStore.get` or the decoder. It can be cancelled
        until its fetch starts.
        """
        result: Future[PreparedImage] = Future()
        self._fetchers.submit(self._fetch, ref, preprocessing, result)
        return result

    def close(self) -> None:
        """End the fetch threads; images whose fetch has not started are cancelled."""
        self._fetchers.shutdown(wait=True, cancel_futures=True)

    def _fetch(self, ref: ImageRef, preprocessing: Preprocessing, result: "Future[PreparedImage]") -> None:
        if not result.set_running_or_notify_cancel():
            return
        self._undecoded.acquire()
        try:
            with metrics.stage("fetch"):
                fetched = self._store.get(ref, self._max_bytes)
            etag, version_id = fetched.etag, fetched.version_id  # not `fetched`: free its bytes after decoding
            started = time.perf_counter()
            decoding = self._decoder.submit(fetched.data, preprocessing)
        except BaseException as error:  # the future carries it to the chunk
            self._undecoded.release()
            result.set_exception(error)
            return

        def finish(decoding: "Future[np.ndarray]") -> None:
            self._undecoded.release()
            metrics.SECONDS.labels("decode").observe(time.perf_counter() - started)
            try:
                result.set_result(PreparedImage(decoding.result(), etag, version_id))
            except CancelledError:
                result.set_exception(RuntimeError("the decoder was closed"))
            except BaseException as error:
                result.set_exception(error)

        decoding.add_done_callback(finish)
