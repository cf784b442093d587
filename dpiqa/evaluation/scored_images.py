"""Scores of labelled images, through the decode pool, the preprocessing and the batches that production uses."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dpiqa.datasets.spec import LabelledImage
from dpiqa.errors import ImageRejected, ObjectGone
from dpiqa.imaging.decode import Limits
from dpiqa.imaging.pool import DecodePool
from dpiqa.models.base import Scorer
from dpiqa.objects.store import LocalFiles
from dpiqa.pipeline.device import batched, score_images
from dpiqa.text import first_line
from dpiqa.types import ImageRef, Reason

#: Called with the number of images that were just finished.
Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Failure:
    """Reason why one image has no score."""

    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ScoredImages:
    """One scorer's scores of labelled images, with the failures."""

    scorer_id: str
    images: tuple[LabelledImage, ...]
    scores: np.ndarray  #: (N,) float64, MOS/100; NaN where there is none
    failures: dict[Path, Failure]  #: why, by path

    def only(self, keep: Iterable[LabelledImage]) -> "ScoredImages":
        """Return the scores of some of the images, looked up by path."""
        members = {image.path: image for image in keep}
        indices = [index for index, image in enumerate(self.images) if image.path in members]
        return ScoredImages(
            scorer_id=self.scorer_id,
            images=tuple(members[self.images[index].path] for index in indices),
            scores=self.scores[indices],
            failures={path: failure for path, failure in self.failures.items() if path in members},
        )


def score_labelled(
    scorer: Scorer,
    images: Sequence[LabelledImage],
    *,
    batch: int = 8,
    processes: int = 1,
    limits: Limits | None = None,
    advance: Advance | None = None,
) -> ScoredImages:
    """Score every image from its file's bytes; `processes` decode the next batch while one is scored.

    An image that cannot be scored does not affect the others. Raises `Unavailable` when no decode process can start.
    """
    scores: list[float] = []
    failures: dict[Path, Failure] = {}
    with DecodePool(processes, limits or Limits()) as pool:
        for submitted in _submitted(pool, scorer, images, batch, (limits or Limits()).max_bytes):
            for image, answer in zip(submitted, _answers(scorer, list(submitted.values())), strict=True):
                scores.append(answer if isinstance(answer, float) else np.nan)
                if not isinstance(answer, float):
                    failures[image.path] = failure_of(answer)
            if advance:
                advance(len(submitted))
    return ScoredImages(scorer.card.scorer_id, tuple(images), np.array(scores), failures)


#: Pixels (H, W, 3) uint8 that the pool will deliver, or the reason why there will be none.
_Pending = Future[np.ndarray] | Exception


def _submitted(
    pool: DecodePool, scorer: Scorer, images: Sequence[LabelledImage], batch: int, max_bytes: int
) -> Iterator[dict[LabelledImage, _Pending]]:
    """Yield one batch after another; each is submitted to the pool before the previous one is scored."""
    following: dict[LabelledImage, _Pending] | None = None
    for members in batched(images, batch):
        current, following = following, {image: _submit(pool, scorer, image.path, max_bytes) for image in members}
        if current is not None:
            yield current
    if following is not None:
        yield following


def _submit(pool: DecodePool, scorer: Scorer, path: Path, max_bytes: int) -> _Pending:
    try:
        fetched = LocalFiles().get(ImageRef(bucket="", key=str(path), etag=""), max_bytes)
    except (ImageRejected, ObjectGone) as error:
        return error
    return pool.submit(fetched.data, scorer.card.preprocessing)


def _answers(scorer: Scorer, pending: Sequence[_Pending]) -> list[float | Exception]:
    """Score or error of each image, in order."""
    decoded: list[np.ndarray | Exception] = []
    for image in pending:
        try:
            decoded.append(image if isinstance(image, Exception) else image.result())
        except ImageRejected as rejection:
            decoded.append(rejection)
    pixels = [image for image in decoded if isinstance(image, np.ndarray)]
    scores = iter(score_images(scorer, pixels).scores) if pixels else iter(())
    return [next(scores) if isinstance(image, np.ndarray) else image for image in decoded]


def failure_of(error: Exception) -> Failure:
    """Return the failure that reports show for an error of one image."""
    match error:
        case ImageRejected():
            return Failure(error.reason, error.message)
        case ObjectGone():
            return Failure(Reason.OBJECT_DELETED, error.message)
        case _:
            return Failure(Reason.REPEATED_ERRORS, first_line(error))
