"""The library as Python programs use it: models by name, and scorers that stay in memory. Exported by `dpiqa`."""

import io
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias, overload

import numpy as np
from PIL import Image

from dpiqa.errors import InvalidRequest
from dpiqa.logs import log_as_a_library
from dpiqa.models.base import ModelCard
from dpiqa.models.cards import find_card
from dpiqa.models.cards import list_cards as cards_of
from dpiqa.models.choice import parse_choice
from dpiqa.objects.store import Fetched, LocalFiles
from dpiqa.pipeline.local_run import LocalRun, ScoredObject
from dpiqa.settings import load_settings
from dpiqa.types import ImageRef

#: One image: a path, the bytes of a file, a Pillow image, or an array of (H, W, 3) or (H, W) uint8, RGB or grey.
ImageLike: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | np.ndarray

_IN_MEMORY = "memory:"  #: bucket of images that are not files
_BMP_BYTES = 32 * 1024 * 1024  #: larger pictures are compressed, so that they pass the limit on the bytes of a file

_ONLY_TIFF = frozenset({"CMYK", "LAB", "YCbCr", "F"})  #: modes that PNG does not have


def list_models() -> list[ModelCard]:
    """Return the cards of the models that are installed: built in, bundled, of plug-ins, and in the models folder.

    Returns:
        Cards by name; `card.name` is what `load` takes, `card.licence` the terms of its weights.

    Raises:
        ConfigurationError: Two models have one name, or a card cannot be read.

    Example:
        >>> import dpiqa
        >>> [card.name for card in dpiqa.list_models() if card.name.startswith("br")]
        ['brightness']
    """
    return cards_of(load_settings().models_dir)


def load(model: str = "bundled-student", **options: Any) -> "ImageScorer":
    """Return a scorer for images in this process. Its model is loaded with the first image.

    Args:
        model: Name of an installed model: see `list_models`.
        options: Settings by name, instead of the environment's: `device="cuda"`, `decode_processes=4`, `threads=1`.

    Returns:
        A scorer that keeps model and decode processes from call to call.

    Raises:
        NotFound: No model has this name.
        ConfigurationError: The model cannot run as chosen, or a setting is wrong.

    Example:
        >>> import dpiqa, numpy
        >>> with dpiqa.load("brightness") as scorer:
        ...     scorer.score(numpy.full((64, 64, 3), 51, dtype=numpy.uint8)).score
        0.2
    """
    return ImageScorer(model, **options)


class ImageScorer:
    """A model that scores images in this process, with the decoding, limits and batches of the workers.

    It can be pickled: a copy in another process loads its model there, with the first image. Calls from several threads
    are taken one after another. A context manager, or `close`; what it started also ends with the process.

    Attributes:
        model: Name of the model.
        card: The model's card: licence, scale, references, and `scorer_id`, which names version and weights.
    """

    def __init__(self, model: str = "bundled-student", **options: Any) -> None:
        """Take arguments as `load`, and raise as it does."""
        self.model, self._options = model, options
        self._settings = load_settings(**options)
        self._choice = parse_choice(model=model)
        self.card = find_card(model, self._settings.models_dir)
        self._lock = threading.Lock()
        self._images = _Images()
        self._run: LocalRun | None = None

    @overload
    def score(  # type: ignore[overload-overlap] # a str is one path
        self, images: ImageLike, *, details: bool = False
    ) -> ScoredObject: ...
    @overload
    def score(self, images: Sequence[ImageLike], *, details: bool = False) -> list[ScoredObject]: ...
    def score(
        self, images: ImageLike | Sequence[ImageLike], *, details: bool = False
    ) -> ScoredObject | list[ScoredObject]:
        """Score one image, or a list of images.

        Args:
            images: A path, bytes of a file, a Pillow image, an array of (H, W, 3) or (H, W) uint8; or a list of these.
                Pictures in memory become the same pixels as the file that they would be saved to.
            details: Also measure each picture: `row.measures`, as `dpiqa.measure` returns them. About 3 ms each.

        Returns:
            For one image its row, for a list one row each, in order. `row.score` is a float on `row.scale`, or None
            where the image cannot be scored, and then `row.reason` and `row.detail` say why. `row.percentile` and
            `row.band` compare it with the model's reference population, where it has one.

        Raises:
            InvalidRequest: Something that is not an image, such as an array of another shape or type.
            ConfigurationError: The model cannot run here: a library or its weights are missing.

        Example:
            >>> import dpiqa, PIL.Image
            >>> with dpiqa.load("brightness") as scorer:
            ...     row = scorer.score(PIL.Image.new("L", (80, 60), 255))
            ...     broken = scorer.score(b"not an image")
            >>> row.score, broken.score, broken.reason.value
            (1.0, None, 'not_an_image')
        """
        if isinstance(images, str | os.PathLike | bytes | Image.Image | np.ndarray):
            return self._score([images], details=details)[0]
        return self._score(images, details=details)

    def scores(self, images: Iterable[ImageLike]) -> np.ndarray:
        """Return the scores alone, (N,) float64, NaN where an image has none. For columns of data frames."""
        return np.array([np.nan if row.score is None else row.score for row in self._score(list(images))], dtype=float)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Score a batch of columns, as Ray Data's `map_batches` passes it.

        Args:
            batch: Columns by name, with one of `path`, `bytes` and `image`; the first of these is scored.

        Returns:
            The same columns, and `score` (float64, NaN without a score), `reason` and `scorer_id` (text).

        Raises:
            InvalidRequest: There is no such column.
        """
        names = [name for name in ("path", "bytes", "image") if name in batch]
        if not names:
            raise InvalidRequest("the batch has no column of images", hint="name one `path`, `bytes` or `image`")
        rows = self._score(list(batch[names[0]]))
        return {
            **batch,
            "score": np.array([np.nan if row.score is None else row.score for row in rows], dtype=float),
            "reason": np.array([row.reason.value if row.reason else "" for row in rows], dtype=object),
            "scorer_id": np.array([row.scorer_id or "" for row in rows], dtype=object),
        }

    def close(self) -> None:
        """End the decode processes and free the model. A later call starts them again."""
        with self._lock:
            run, self._run = self._run, None
            if run is not None:
                run.close()

    def _score(self, images: Sequence[ImageLike], *, details: bool = False) -> list[ScoredObject]:
        with self._lock:
            refs = [self._images.add(index, image) for index, image in enumerate(images)]
            try:
                if self._run is None:
                    log_as_a_library()
                    self._run = LocalRun(self._images, self._settings)
                return [row for (row,) in self._run.score(refs, [self._choice], details=details)]
            finally:
                self._images.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self.model, self._options)

    def __repr__(self) -> str:
        return f"<ImageScorer {self.card.scorer_id}>"


def _unpickled(model: str, options: dict[str, Any]) -> ImageScorer:
    return ImageScorer(model, **options)


class _Images:
    """The `get` of an object store for files and for images in memory."""

    def __init__(self) -> None:
        self._files = LocalFiles()
        self._bytes: dict[str, bytes] = {}

    def add(self, index: int, image: ImageLike) -> ImageRef:
        """Return what an image is read as."""
        if isinstance(image, str | os.PathLike):
            return ImageRef(bucket="", key=os.fspath(Path(image)), etag="")
        key = str(index)
        self._bytes[key] = _encoded(image)
        return ImageRef(bucket=_IN_MEMORY, key=key, etag="")

    def clear(self) -> None:
        """Free the bytes."""
        self._bytes.clear()

    def get(self, ref: ImageRef, max_bytes: int) -> Fetched:
        """See `LocalFiles.get`."""
        if ref.bucket != _IN_MEMORY:
            return self._files.get(ref, max_bytes)
        return Fetched(data=self._bytes[ref.key], etag="", version_id=None, last_modified=None)


def _encoded(image: bytes | Image.Image | np.ndarray) -> bytes:
    """Return the bytes of a file that holds exactly these pixels."""
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, np.ndarray):
        if (
            image.dtype != np.uint8
            or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3))
            or not image.size
        ):
            raise InvalidRequest(
                f"an array of {image.shape} {image.dtype} is not an image",
                hint="pass (H, W, 3) or (H, W) uint8, RGB or grey",
            )
        image = Image.fromarray(np.ascontiguousarray(image))
    if not isinstance(image, Image.Image):
        raise InvalidRequest(
            f"a {type(image).__name__} is not an image", hint="pass a path, bytes, a Pillow image or a uint8 array"
        )
    file = io.BytesIO()
    is_plain = image.mode in ("RGB", "L") and "icc_profile" not in image.info and not image.getexif()
    is_small = 3 * image.width * image.height <= _BMP_BYTES
    kind = "TIFF" if image.mode in _ONLY_TIFF else "BMP" if is_plain and is_small else "PNG"
    try:
        image.save(file, kind, **({"compress_level": 1} if kind == "PNG" else {}))
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"a picture of mode {image.mode} cannot be read: {error}", hint="make it RGB") from None
    return file.getvalue()
