"""Images of a requirement's pairs, read as every image: fetch, then bounded decoding in another process."""

import hashlib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from dpiqa.errors import ImageRejected, InvalidRequest, ObjectGone
from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.objects.store import Fetched
from dpiqa.pipeline.preparer import Decoder, Preparer, Reader
from dpiqa.requirement import Pair
from dpiqa.settings import Settings
from dpiqa.types import ImageRef, Reason

_MAX_NAMED = 10  #: unreadable images named in one error


@dataclass(frozen=True, slots=True)
class PairImages:
    """The images of the pairs, in their order."""

    pixels: np.ndarray  #: (N, H, W, 3) uint8, as the preprocessing makes them
    digests: tuple[str, ...]  #: sha256 of the bytes, hex


class PairReader:
    """The `get` of an object store for objects and, where allowed, files; keeps the digests. Thread-safe."""

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
    pixels: list[np.ndarray] = []
    unusable: list[str] = []
    with closing(Preparer(reader, decoder, settings)) as preparer:
        preparing = [preparer.submit(pair.ref, [preprocessing]) for pair in pairs]
        for pair, future in zip(pairs, preparing, strict=True):
            try:
                pixels.append(future.result().pixels[preprocessing].result())
            except ImageRejected as error:
                reason, detail = error.reason.value, error.message
                unusable.append(f"{pair.path}: {reason}" + (f", {detail}" if detail != reason else ""))
            except ObjectGone:
                unusable.append(f"{pair.path}: there is no such file or object")
    if unusable:
        more = f"; and {len(unusable) - _MAX_NAMED} more" if len(unusable) > _MAX_NAMED else ""
        raise InvalidRequest(
            f"{len(unusable)} of {len(pairs)} images cannot be used: {'; '.join(unusable[:_MAX_NAMED])}{more}",
            hint="fix or replace them",
        )
    return PairImages(np.stack(pixels), tuple(reader.digests[pair.ref] for pair in pairs))
