"""Scores against the strength of each kind of distortion: what a model sees, and what it does not."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dpiqa.errors import ImageRejected, InvalidRequest, ObjectGone
from dpiqa.evaluation.monotone import TOLERANCE, Course, monotone
from dpiqa.evaluation.scoring import Advance, Failure, failure_of
from dpiqa.imaging.decode import decode
from dpiqa.imaging.distortions import KINDS, STRENGTHS, distort
from dpiqa.imaging.limits import Limits
from dpiqa.imaging.preprocessing import prepare
from dpiqa.models.base import Scorer
from dpiqa.objects.files import LocalFiles
from dpiqa.pipeline.batches import score_images
from dpiqa.types import ImageRef

#: Pixels of the longer side. Larger pictures are scaled down before they are spoiled: strengths scale with the picture,
#: models look at a few hundred pixels, and 180 distortions of 12 megapixels would take minutes.
LONGEST_SIDE = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Scores of one model, by kind and strength. Column 0 is the original, 1 to 5 are the strengths."""

    scorer_id: str
    kinds: tuple[str, ...]
    scores: np.ndarray  #: (images, kinds, 6) float64, MOS/100
    failures: dict[Path, Failure]  #: pictures that could not be decoded or scored; they are in no mean
    tolerance: float

    @property
    def means(self) -> dict[str, np.ndarray]:
        """Mean over the pictures, (6,), by kind."""
        return dict(zip(self.kinds, self.scores.mean(axis=0), strict=True))

    @property
    def courses(self) -> dict[str, Course]:
        """Whether the mean falls, by kind."""
        return {kind: monotone(mean.tolist(), self.tolerance) for kind, mean in self.means.items()}

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the single scores, for a report."""
        deviations = self.scores.std(axis=0)
        return {
            "scorer": self.scorer_id,
            "images": len(self.scores),
            "failures": {str(path): failure.reason.value for path, failure in self.failures.items()},
            "tolerance": self.tolerance,
            "falling": sum(course.falls for course in self.courses.values()),
            "kinds": {
                kind: {
                    "mean": [round(float(value), 4) for value in self.means[kind]],
                    "deviation": [round(float(value), 4) for value in deviation],
                    "falls": course.falls,
                    "rises_at": list(course.rises),
                    "drop": round(course.drop, 4),
                }
                for (kind, course), deviation in zip(self.courses.items(), deviations, strict=True)
            },
        }


def check_kinds(kinds: Sequence[str]) -> tuple[str, ...]:
    """Return the kinds, all there are for none. Raises `InvalidRequest` naming one that does not exist."""
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise InvalidRequest(f"no distortion is called {unknown[0]!r}", hint=f"known: {', '.join(KINDS)}")
    return tuple(dict.fromkeys(kinds)) or tuple(KINDS)


def sweep(
    scorer: Scorer,
    files: Sequence[Path],
    *,
    kinds: Sequence[str] = (),
    limits: Limits | None = None,
    tolerance: float = TOLERANCE,
    advance: Advance | None = None,
) -> Sweep:
    """Spoil every picture in every kind at every strength, and score the lot; `kinds`: all unless given.

    The seed of a distortion is the picture's place in `files`. Raises `InvalidRequest` for an unknown kind, or when no
    picture can be scored.
    """
    chosen = check_kinds(kinds)
    rows: list[np.ndarray] = []
    failures: dict[Path, Failure] = {}
    for seed, path in enumerate(files):
        try:
            rows.append(_row(scorer, _read(path, limits or Limits()), chosen, seed))
        except (ImageRejected, ObjectGone) as error:
            failures[path] = failure_of(error)
        if advance:
            advance(1)
    if not rows:
        raise InvalidRequest(f"none of {len(files)} pictures could be scored", hint="check the folder")
    return Sweep(
        scorer_id=scorer.card.scorer_id, kinds=chosen, scores=np.stack(rows), failures=failures, tolerance=tolerance
    )


def _read(path: Path, limits: Limits) -> Image.Image:
    fetched = LocalFiles().get(ImageRef(bucket="", key=str(path), etag=""), limits.max_bytes)
    image = decode(fetched.data, limits)
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    return image


def _row(scorer: Scorer, image: Image.Image, kinds: Sequence[str], seed: int) -> np.ndarray:
    """(kinds, 6) scores of one picture. Raises `ImageRejected` where one of them is not a number."""
    (original,) = _scores(scorer, iter([image]))
    return np.array([[original, *_scores(scorer, _spoiled(image, kind, seed))] for kind in kinds])


def _spoiled(image: Image.Image, kind: str, seed: int) -> Iterator[Image.Image]:
    return (distort(image, kind, strength, seed) for strength in STRENGTHS)


def _scores(scorer: Scorer, images: Iterator[Image.Image]) -> list[float]:
    answers = score_images(scorer, [prepare(image, scorer.card.preprocessing) for image in images]).answers
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return [answer for answer in answers if isinstance(answer, float)]
