"""Fetching and decoding of objects: fetch threads, then the decode pool, with a bound on the bytes in between."""

import hashlib
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.objects.store import Fetched
from dpiqa.pipeline import metrics
from dpiqa.settings import Settings
from dpiqa.types import ImageRef

#: Pixels of one image, (H, W, 3) uint8, as each preprocessing makes them; or the error of the decoder.
Pixels = dict[Preprocessing, "Future[np.ndarray]"]


class FetchedImage:
    """The bytes of one object. They count against the preparer's bound until they are decoded or released."""

    def __init__(self, fetched: Fetched, content_hash: bytes | None, on_release: Callable[[], None]) -> None:
        self.data = fetched.data
        self.etag, self.version_id = fetched.etag, fetched.version_id
        self.content_hash = content_hash  #: SHA-256 of the bytes; None where bytes are not compared
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

    def __init__(self, store: Reader, decoder: Decoder, settings: Settings, *, hashes: bool = False) -> None:
        self._store, self._decoder, self._max_bytes = store, decoder, settings.max_image_bytes
        self._hashes = hashes  # whether bytes are compared
        self._fetchers = ThreadPoolExecutor(settings.fetch_threads, thread_name_prefix="fetch")
        # Images fetched and not yet decoded: enough to keep every decoder busy, few enough to bound memory.
        self._undecoded = threading.BoundedSemaphore(settings.fetch_threads + 2 * settings.decode_processes)

    def fetch(self, ref: ImageRef) -> "Future[FetchedImage]":
        """Fetch one object.

        The future ends in `FetchedImage`, to be decoded or released, or with an error of `ObjectStore.get`. It can be
        cancelled until its fetch starts.
        """
        result: Future[FetchedImage] = Future()
        self._fetchers.submit(self._fetch, ref, result)
        return result

    def decode(self, image: FetchedImage, preprocessings: Iterable[Preprocessing]) -> Pixels:
        """Decode an image, once for each preprocessing, then release its bytes."""
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
            try:
                decoding = self._decoder.submit(image.data, preprocessing)
            except BaseException as error:  # the future carries it to the chunk
                result.set_exception(error)
            else:
                decoding.add_done_callback(_passing_on(result))
        return pixels

    def submit(self, ref: ImageRef, preprocessings: Iterable[Preprocessing]) -> "Future[PreparedImage]":
        """Fetch one object and begin to decode it, once for each preprocessing.

        The future ends in `PreparedImage`, or with an error of `ObjectStore.get`. It can be cancelled until its fetch
        starts.
        """
        result: Future[PreparedImage] = Future()

        def begin(fetching: "Future[FetchedImage]") -> None:
            try:
                image = fetching.result()
                result.set_result(PreparedImage(self.decode(image, preprocessings), image.etag, image.version_id))
            except CancelledError:
                result.cancel()
            except BaseException as error:
                result.set_exception(error)

        self.fetch(ref).add_done_callback(begin)
        return result

    def close(self) -> None:
        """End the fetch threads; images whose fetch has not started are cancelled."""
        self._fetchers.shutdown(wait=True, cancel_futures=True)

    def _fetch(self, ref: ImageRef, result: "Future[FetchedImage]") -> None:
        if not result.set_running_or_notify_cancel():
            return
        self._undecoded.acquire()
        try:
            with metrics.stage("fetch"):
                fetched = self._store.get(ref, self._max_bytes)
            content_hash = hashlib.sha256(fetched.data).digest() if self._hashes else None
        except BaseException as error:  # the future carries it to the chunk
            self._undecoded.release()
            result.set_exception(error)
            return
        result.set_result(FetchedImage(fetched, content_hash, self._undecoded.release))


def _passing_on(result: "Future[np.ndarray]") -> "Callable[[Future[np.ndarray]], None]":
    """Return a callback that gives `result` what a decoding ends in, and times it."""
    started = time.perf_counter()

    def finish(decoding: "Future[np.ndarray]") -> None:
        metrics.SECONDS.labels("decode").observe(time.perf_counter() - started)
        try:
            result.set_result(decoding.result())
        except CancelledError:
            result.set_exception(RuntimeError("the decoder was closed"))
        except BaseException as error:
            result.set_exception(error)

    return finish
