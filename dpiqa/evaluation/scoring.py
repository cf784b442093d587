"""Scores of labelled images, through the decode pool, the preprocessing and the batches that production uses."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dpiqa.datasets.labelled import LabelledImage
from dpiqa.errors import ImageRejected, ObjectGone
from dpiqa.imaging.limits import Limits
from dpiqa.imaging.pool import DecodePool
from dpiqa.models.base import Scorer
from dpiqa.objects.files import LocalFiles
from dpiqa.pipeline.batches import in_parts, score_images
from dpiqa.text import first_line
from dpiqa.types import ImageRef, Reason

#: Called with the number of images that were just finished.
Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one image has no score."""

    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Scored:
    """One scorer's answers for labelled images, failures among them."""

    scorer_id: str
    images: tuple[LabelledImage, ...]
    scores: np.ndarray  #: (N,) float64, MOS/100; NaN where there is none
    failures: dict[Path, Failure]  #: why, by path

    def only(self, keep: Iterable[LabelledImage]) -> "Scored":
        """Return the answers for some of the images, looked up by path."""
        wanted = {image.path: image for image in keep}
        places = [place for place, image in enumerate(self.images) if image.path in wanted]
        return Scored(
            scorer_id=self.scorer_id,
            images=tuple(wanted[self.images[place].path] for place in places),
            scores=self.scores[places],
            failures={path: failure for path, failure in self.failures.items() if path in wanted},
        )


def score_labelled(
    scorer: Scorer,
    images: Sequence[LabelledImage],
    *,
    batch: int = 8,
    processes: int = 1,
    limits: Limits | None = None,
    advance: Advance | None = None,
) -> Scored:
    """Score every image from its file's bytes; `processes` decode the next batch while one is scored.

    An image that cannot be scored costs only itself. Raises `Unavailable` when no decode process can be started.
    """
    scores: list[float] = []
    failures: dict[Path, Failure] = {}
    with DecodePool(processes, limits or Limits()) as pool:
        ready = _decoded(pool, scorer, images, batch, (limits or Limits()).max_bytes)
        for part in ready:
            for image, answer in zip(part, _answers(scorer, list(part.values())), strict=True):
                scores.append(answer if isinstance(answer, float) else np.nan)
                if not isinstance(answer, float):
                    failures[image.path] = failure_of(answer)
            if advance:
                advance(len(part))
    return Scored(scorer.card.scorer_id, tuple(images), np.array(scores), failures)


#: Pixels (H, W, 3) uint8 on their way, or why there will be none.
_Coming = Future[np.ndarray] | Exception


def _decoded(
    pool: DecodePool, scorer: Scorer, images: Sequence[LabelledImage], batch: int, max_bytes: int
) -> Iterator[dict[LabelledImage, _Coming]]:
    """Yield part after part, each submitted to the pool before the one before it is scored."""
    ahead: dict[LabelledImage, _Coming] | None = None
    for part in in_parts(images, batch):
        current, ahead = ahead, {image: _submit(pool, scorer, image.path, max_bytes) for image in part}
        if current is not None:
            yield current
    if ahead is not None:
        yield ahead


def _submit(pool: DecodePool, scorer: Scorer, path: Path, max_bytes: int) -> _Coming:
    try:
        fetched = LocalFiles().get(ImageRef(bucket="", key=str(path), etag=""), max_bytes)
    except (ImageRejected, ObjectGone) as error:
        return error
    return pool.submit(fetched.data, scorer.card.preprocessing)


def _answers(scorer: Scorer, coming: Sequence[_Coming]) -> list[float | Exception]:
    """One answer per image, in order."""
    outcomes = [_outcome(one) for one in coming]
    pixels = [one for one in outcomes if isinstance(one, np.ndarray)]
    scores = iter(score_images(scorer, pixels).answers) if pixels else iter(())
    return [next(scores) if isinstance(one, np.ndarray) else one for one in outcomes]


def _outcome(coming: _Coming) -> np.ndarray | Exception:
    if isinstance(coming, Exception):
        return coming
    try:
        return coming.result()
    except ImageRejected as rejection:
        return rejection


def failure_of(error: Exception) -> Failure:
    """Put an error of one image in the words of reports."""
    match error:
        case ImageRejected():
            return Failure(error.reason, error.message)
        case ObjectGone():
            return Failure(Reason.OBJECT_DELETED, error.message)
        case _:
            return Failure(Reason.REPEATED_ERRORS, first_line(error))
