"""Changes of one model's scores under edits that should matter little: encoding, size, side, a crop, a thin border."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from dpiqa.errors import ImageRejected, InvalidRequest, ObjectGone
from dpiqa.evaluation.scored_images import Advance, Failure, failure_of
from dpiqa.imaging.decode import Limits, decode, decode_and_prepare
from dpiqa.models.base import Scorer
from dpiqa.objects.store import LocalFiles
from dpiqa.pipeline.device import score_images
from dpiqa.types import ImageRef

BORDER = 0.01  #: of the shorter side
LESS = 3 / 4  #: of a side, that is left when a picture is reduced or cropped
JPEG_QUALITY = 95


def _png(image: Image.Image) -> bytes:
    return _file(image, "PNG", compress_level=1)


def _file(image: Image.Image, image_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def _scaled(image: Image.Image, factor: float) -> bytes:
    size = (max(1, round(factor * image.width)), max(1, round(factor * image.height)))
    return _png(image.resize(size, Image.Resampling.LANCZOS))


def _cropped(image: Image.Image) -> bytes:
    """Return the middle rows, of another aspect ratio than the whole."""
    height = max(1, round(LESS * image.height))
    top = (image.height - height) // 2
    return _png(image.crop((0, top, image.width, top + height)))


def _bordered(image: Image.Image) -> bytes:
    return _png(ImageOps.expand(image, max(1, round(BORDER * min(image.size))), fill="black"))


#: Edits by name, from an upright RGB picture to the bytes of a file.
EDITS: dict[str, Callable[[Image.Image], bytes]] = {
    "lossless": _png,
    "jpeg_95": lambda image: _file(image, "JPEG", quality=JPEG_QUALITY),
    "twice_the_size": lambda image: _scaled(image, 2),
    "three_quarters_the_size": lambda image: _scaled(image, LESS),
    "cropped": _cropped,
    "mirrored": lambda image: _png(ImageOps.mirror(image)),
    "border": _bordered,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Invariance:
    """Scores of one model for pictures and for their edited copies."""

    scorer_id: str
    originals: np.ndarray  #: (images,) float64, MOS/100
    edited: np.ndarray  #: (images, edits) in the order of `EDITS`
    failures: dict[Path, Failure]  #: pictures that could not be scored in every form; they are in no figure

    def figures(self) -> dict[str, dict[str, float]]:
        """Return, by edit, mean and 95th percentile of the size of the change, and the mean change."""
        changes = self.edited - self.originals[:, None]
        sizes = np.abs(changes)
        return {
            name: {
                "mean_size": round(float(sizes[:, column].mean()), 4),
                "size_95": round(float(np.percentile(sizes[:, column], 95)), 4),
                "mean_change": round(float(changes[:, column].mean()), 4),
            }
            for column, name in enumerate(EDITS)
        }

    def as_dict(self) -> dict[str, Any]:
        """Return the figures, for JSON and for a card."""
        return {
            "scorer": self.scorer_id,
            "pictures": len(self.originals),
            "failures": len(self.failures),
            "edits": self.figures(),
        }


def measure_invariance(
    scorer: Scorer, files: Sequence[Path], *, limits: Limits | None = None, advance: Advance | None = None
) -> Invariance:
    """Score every picture as it is and after each edit, through the decoder of production.

    Raises `InvalidRequest` when no picture can be scored.
    """
    limits = limits or Limits()
    rows: list[list[float]] = []
    failures: dict[Path, Failure] = {}
    for path in files:
        try:
            rows.append(_row(scorer, path, limits))
        except (ImageRejected, ObjectGone) as error:
            failures[path] = failure_of(error)
        if advance:
            advance(1)
    if not rows:
        raise InvalidRequest(f"none of {len(files)} pictures could be scored", hint="check the folder")
    scores = np.array(rows)
    return Invariance(scorer_id=scorer.card.scorer_id, originals=scores[:, 0], edited=scores[:, 1:], failures=failures)


def _row(scorer: Scorer, path: Path, limits: Limits) -> list[float]:
    """Return the score of a picture and of its edits. Raises `ImageRejected` where one of them has none."""
    data = LocalFiles().get(ImageRef(bucket="", key=str(path), etag=""), limits.max_bytes).data
    image = decode(data, limits)
    forms = [data, *(edit(image) for edit in EDITS.values())]
    outcome = score_images(scorer, [decode_and_prepare(form, scorer.card.preprocessing, limits) for form in forms])
    for score in outcome.scores:
        if isinstance(score, Exception):
            raise score
    return [score for score in outcome.scores if isinstance(score, float)]
