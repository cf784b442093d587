"""From the pairs of a requirement to pixels, by the road of every image: fetch, bounded decoding in another process."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from dpiqa.errors import ImageRejected, InvalidRequest, ObjectGone
from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.objects.store import Fetched
from dpiqa.pipeline.preparer import Decoder, Prepared, Preparer, Reader
from dpiqa.requirement import Pair
from dpiqa.settings import Settings
from dpiqa.types import ImageRef, Reason

_NAMED = 10  #: unreadable images named in one error


@dataclass(frozen=True, slots=True)
class PairImages:
    """What was read of the pairs, in their order."""

    pixels: np.ndarray  #: (N, H, W, 3) uint8, as the preprocessing makes them
    digests: tuple[str, ...]  #: sha256 of the bytes, hex


class PairReader:
    """The `get` of an object store for objects and, where allowed, files; remembers what was read. Thread-safe."""

    def __init__(self, objects: Reader, files: Reader | None) -> None:
        self._objects, self._files = objects, files
        self.digests: dict[ImageRef, str] = {}

    def get(self, ref: ImageRef, max_bytes: int) -> Fetched:
        """See `ObjectStore.get`. A ref without a bucket is a file."""
        source = self._objects if ref.bucket else self._files
        if source is None:
            raise ImageRejected(Reason.ACCESS_DENIED, "files are read by `dpiqa requirements create` only")
        fetched = source.get(ref, max_bytes)
        self.digests[ref] = hashlib.sha256(fetched.data).hexdigest()
        return fetched


def read_images(
    pairs: Sequence[Pair], reader: PairReader, decoder: Decoder, preprocessing: Preprocessing, settings: Settings
) -> PairImages:
    """Fetch and decode every pair's image.

    Raises `InvalidRequest` naming the images that cannot be read, each with its reason; `Unavailable`, and
    `ConfigurationError` for a bucket that is missing or denied.
    """
    preparer = Preparer(
        reader,
        decoder,
        fetch_threads=settings.fetch_threads,
        decode_processes=settings.decode_processes,
        max_bytes=settings.max_image_bytes,
    )
    with closing(preparer):
        reading = [preparer.submit(pair.ref, preprocessing) for pair in pairs]
        outcomes = [_outcome(future) for future in reading]
    unread = [
        f"{pair.path}: {outcome}" for pair, outcome in zip(pairs, outcomes, strict=True) if isinstance(outcome, str)
    ]
    if unread:
        more = f"; and {len(unread) - _NAMED} more" if len(unread) > _NAMED else ""
        raise InvalidRequest(
            f"{len(unread)} of {len(pairs)} images cannot be used: {'; '.join(unread[:_NAMED])}{more}",
            hint="mend or replace them",
        )
    pixels = [outcome.pixels for outcome in outcomes if isinstance(outcome, Prepared)]
    return PairImages(np.stack(pixels), tuple(reader.digests[pair.ref] for pair in pairs))


def _outcome(reading: "Future[Prepared]") -> Prepared | str:
    """Return the image, or why it cannot be used. Raises what is not the image's fault."""
    try:
        return reading.result()
    except ImageRejected as error:
        return error.reason.value if error.message == error.reason.value else f"{error.reason}, {error.message}"
    except ObjectGone:
        return "there is no such file or object"
