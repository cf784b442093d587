"""Scores of one model against the strength of each kind of distortion, and their report."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dpiqa.errors import ImageRejected, InvalidRequest, NotFound, ObjectGone
from dpiqa.evaluation.scored_images import Advance, Failure, failure_of
from dpiqa.imaging.decode import Limits, decode
from dpiqa.imaging.distortions import KINDS, STRENGTHS, distort
from dpiqa.imaging.preprocessing import prepare
from dpiqa.models.base import ModelCard, Scorer
from dpiqa.objects.store import LocalFiles
from dpiqa.pipeline.device import score_images
from dpiqa.text import markdown_table
from dpiqa.types import ImageRef

#: Pixels of the longer side. Larger pictures are scaled down before they are distorted: strengths scale with the
#: picture, models look at a few hundred pixels, and 180 distortions of 12 megapixels would take minutes.
LONGEST_SIDE = 1024
#: MOS/100. A scorer on one class of hardware reproduces its scores within this; a smaller difference says nothing.
TOLERANCE = 0.001
_COLUMNS = ("distortion", "original", "1", "2", "3", "4", "5", "verdict")


@dataclass(frozen=True, slots=True)
class Trend:
    """Trend of scores from the original (strength 0) to the strongest distortion; as a string, a verdict."""

    rises: tuple[int, ...]  #: strengths whose score is above that of some weaker one by more than the tolerance
    drop: float  #: score of the original minus that of the strongest
    tolerance: float

    @property
    def falls(self) -> bool:
        """Return whether the score never rises, and ends below where it began."""
        return not self.rises and self.drop > self.tolerance

    def __str__(self) -> str:
        if self.rises:
            return f"rises at {', '.join(map(str, self.rises))}"
        return "falls" if self.falls else "does not move"


def trend(scores: Sequence[float], tolerance: float = TOLERANCE) -> Trend:
    """Return the trend of scores in order of strength, the original's first. Raises `ValueError` for fewer than two.

    Every score is compared with the lowest of all weaker ones, not only with the one before: a slow creep upwards in
    steps below the tolerance is a rise, too.
    """
    if len(scores) < 2:
        raise ValueError(f"expected the original's score and at least one more, got {len(scores)}")
    rises = []
    lowest = scores[0]
    for strength, score in enumerate(scores[1:], start=1):
        if score > lowest + tolerance:
            rises.append(strength)
        lowest = min(lowest, score)
    return Trend(tuple(rises), float(scores[0] - scores[-1]), tolerance)


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
    def trends(self) -> dict[str, Trend]:
        """Trend of the mean, by kind."""
        return {kind: trend(mean.tolist(), self.tolerance) for kind, mean in self.means.items()}

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the single scores, for a report."""
        deviations = self.scores.std(axis=0)
        return {
            "scorer": self.scorer_id,
            "images": len(self.scores),
            "failures": {str(path): failure.reason.value for path, failure in self.failures.items()},
            "tolerance": self.tolerance,
            "falling": sum(trend.falls for trend in self.trends.values()),
            "kinds": {
                kind: {
                    "mean": [round(float(value), 4) for value in self.means[kind]],
                    "deviation": [round(float(value), 4) for value in deviation],
                    "falls": trend.falls,
                    "rises_at": list(trend.rises),
                    "drop": round(trend.drop, 4),
                }
                for (kind, trend), deviation in zip(self.trends.items(), deviations, strict=True)
            },
        }


def check_kinds(kinds: Sequence[str]) -> tuple[str, ...]:
    """Return the kinds without duplicates; all kinds if none is given. Raises `NotFound` for an unknown one."""
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise NotFound(f"no distortion is called {unknown[0]!r}", hint=f"known: {', '.join(KINDS)}")
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
    """Distort every picture in every kind at every strength, and score them all; `kinds`: all unless given.

    The seed of a distortion is the picture's index in `files`. Raises `InvalidRequest` for an unknown kind, or when no
    picture can be scored.
    """
    kinds = check_kinds(kinds)
    rows: list[np.ndarray] = []
    failures: dict[Path, Failure] = {}
    for seed, path in enumerate(files):
        try:
            rows.append(_row(scorer, _read(path, limits or Limits()), kinds, seed))
        except (ImageRejected, ObjectGone) as error:
            failures[path] = failure_of(error)
        if advance:
            advance(1)
    if not rows:
        raise InvalidRequest(f"none of {len(files)} pictures could be scored", hint="check the folder")
    return Sweep(
        scorer_id=scorer.card.scorer_id, kinds=kinds, scores=np.stack(rows), failures=failures, tolerance=tolerance
    )


def _read(path: Path, limits: Limits) -> Image.Image:
    fetched = LocalFiles().get(ImageRef(bucket="", key=str(path), etag=""), limits.max_bytes)
    image = decode(fetched.data, limits)
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    return image


def _row(scorer: Scorer, image: Image.Image, kinds: Sequence[str], seed: int) -> np.ndarray:
    """(kinds, 6) scores of one picture. Raises `ImageRejected` where one of them is not a number."""
    (original,) = _scores(scorer, iter([image]))
    return np.array(
        [
            [original, *_scores(scorer, (distort(image, kind, strength, seed) for strength in STRENGTHS))]
            for kind in kinds
        ]
    )


def _scores(scorer: Scorer, images: Iterator[Image.Image]) -> list[float]:
    answers = score_images(scorer, [prepare(image, scorer.card.preprocessing) for image in images]).scores
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return [answer for answer in answers if isinstance(answer, float)]


def markdown(card: ModelCard, sweep: Sweep) -> str:
    """Write scores against strength as a Markdown page."""
    falling = sum(trend.falls for trend in sweep.trends.values())
    rows = [
        [kind, *("-" if np.isnan(value) else f"{value:.3f}" for value in sweep.means[kind]), str(trend)]
        for kind, trend in sweep.trends.items()
    ]
    failed = f", {len(sweep.failures)} failed" if sweep.failures else ""
    return "\n\n".join(
        [
            f"# {card.name}: score against distortion",
            f"Scorer `{sweep.scorer_id}`; means over {len(sweep.scores)} pictures{failed}.",
            f"The score falls with strength for {falling} of {len(sweep.kinds)} kinds (tolerance {sweep.tolerance:g}).",
            markdown_table(_COLUMNS, rows) + "\n",
        ]
    )


def card_sections(sweep: Sweep) -> dict[str, dict[str, Any]]:
    """Return the section for a card, by name: for which kinds the score falls with strength, and where it does not."""
    trends = sweep.trends
    return {
        "distortions": {
            "scorer": sweep.scorer_id,
            "pictures": len(sweep.scores),
            "failures": len(sweep.failures),
            "tolerance": sweep.tolerance,
            "kinds": len(sweep.kinds),
            "falling": [kind for kind, trend in trends.items() if trend.falls],
            "rising_at_strengths": {kind: list(trend.rises) for kind, trend in trends.items() if trend.rises},
            "flat": [kind for kind, trend in trends.items() if not trend.falls and not trend.rises],
            "means_by_strength": {
                kind: [round(float(value), 4) for value in mean] for kind, mean in sweep.means.items()
            },
        }
    }
