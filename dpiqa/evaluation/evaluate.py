"""A scorer against human scores: the very decoding, preprocessing and scorer that production uses."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dpiqa.datasets.labelled import LabelledImage
from dpiqa.errors import InvalidRequest
from dpiqa.evaluation.correlation import Agreement, agreement
from dpiqa.evaluation.intervals import DRAWS, Interval, intervals, rounded, srcc_interval
from dpiqa.evaluation.scoring import Advance, Failure, Scored, score_labelled
from dpiqa.imaging.limits import Limits
from dpiqa.models.base import Scorer

_FEWEST = 2  #: images that a correlation needs


@dataclass(frozen=True, slots=True, kw_only=True)
class Subset:
    """One part of a data set. `figures` and `interval` are None for fewer than two scored images."""

    n: int  #: scored images
    failed: int  #: images without a score
    figures: Agreement | None
    interval: Interval  #: of the SRCC

    def as_dict(self) -> dict[str, Any]:
        """Return the figures for a card or a report."""
        figures = self.figures.as_dict() if self.figures else {"n": self.n}
        return {**figures, "srcc_95": rounded(self.interval), "failures": self.failed}


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What came out. Images that could not be scored are counted, never dropped in silence."""

    scorer_id: str
    overall: Agreement  #: of the images that have a score
    intervals: dict[str, Interval]  #: 95 % bootstrap interval by metric
    subsets: dict[str, Subset]  #: by name; empty where the set has none
    slope: float | None  #: of the line that maps scores to labels; 1 is perfect; None for constant scores
    offset: float | None  #: of that line; 0 is perfect
    failures: dict[Path, Failure]
    scores: np.ndarray  #: (n,), in the order of `images`
    images: tuple[LabelledImage, ...]  #: those that have a score

    @property
    def paths(self) -> tuple[str, ...]:
        """Files of the scores."""
        return tuple(str(image.path) for image in self.images)

    @property
    def labels(self) -> np.ndarray:
        """MOS of the scores, (n,), 0-1, higher is better."""
        return np.array([image.mos for image in self.images])

    def as_dict(self) -> dict[str, Any]:
        """Return the figures for a card or a report."""
        return {
            **self.overall.as_dict(),
            "intervals_95": {metric: rounded(interval) for metric, interval in self.intervals.items()},
            "slope": None if self.slope is None else round(self.slope, 3),
            "offset": None if self.offset is None else round(self.offset, 3),
            "subsets": {name: subset.as_dict() for name, subset in self.subsets.items()},
            "failures": len(self.failures),
            "failure_reasons": dict(Counter(failure.reason.value for failure in self.failures.values())),
        }


def evaluate(
    scorer: Scorer,
    images: Sequence[LabelledImage],
    *,
    batch: int = 8,
    processes: int = 1,
    limits: Limits | None = None,
    advance: Advance | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Evaluation:
    """Score every image from its file's bytes and compare with its label (see `score_labelled` and `summarise`).

    Raises `InvalidRequest` if fewer than two images can be scored.
    """
    scored = score_labelled(scorer, images, batch=batch, processes=processes, limits=limits, advance=advance)
    return summarise(scored, draws=draws, seed=seed)


def summarise(scored: Scored, *, draws: int = DRAWS, seed: int = 0) -> Evaluation:
    """Compare scores with labels; `draws` and `seed` are the bootstrap's. Raises `InvalidRequest` for under two."""
    images, scores, labels = _with_scores(scored)
    slope, offset = _line(scores, labels)
    return Evaluation(
        scorer_id=scored.scorer_id,
        overall=agreement(scores, labels),
        intervals=intervals(scores, labels, draws=draws, seed=seed),
        subsets=_subsets(scored, draws, seed),
        slope=slope,
        offset=offset,
        failures=scored.failures,
        scores=scores,
        images=images,
    )


def figures(scored: Scored) -> Agreement:
    """Compare scores with labels, without intervals or subsets. Raises `InvalidRequest` for under two."""
    _, scores, labels = _with_scores(scored)
    return agreement(scores, labels)


def _with_scores(scored: Scored) -> tuple[tuple[LabelledImage, ...], np.ndarray, np.ndarray]:
    """Images that have a score, their scores (n,) and labels (n,)."""
    there = np.isfinite(scored.scores)
    images = tuple(image for image, is_there in zip(scored.images, there, strict=True) if is_there)
    if len(images) < _FEWEST:
        raise InvalidRequest(
            f"{len(images)} of {len(there)} images could be scored{_first_failure(scored)}",
            hint="check the data set's folder",
        )
    return images, scored.scores[there], np.array([image.mos for image in images])


def _first_failure(scored: Scored) -> str:
    for path, failure in scored.failures.items():
        return f"; {path}: {failure.reason}"
    return ""


def _line(scores: np.ndarray, labels: np.ndarray) -> tuple[float | None, float | None]:
    if np.ptp(scores) == 0:
        return None, None
    slope, offset = np.polyfit(scores, labels, 1)
    return float(slope), float(offset)


def _subsets(scored: Scored, draws: int, seed: int) -> dict[str, Subset]:
    names = np.array([image.subset for image in scored.images])
    labels = np.array([image.mos for image in scored.images])
    return {
        name: _subset(scored.scores[names == name], labels[names == name], draws, seed)
        for name in sorted({str(name) for name in names} - {""})
    }


def _subset(scores: np.ndarray, labels: np.ndarray, draws: int, seed: int) -> Subset:
    there = np.isfinite(scores)
    n, failed = int(there.sum()), int((~there).sum())
    if n < _FEWEST:
        return Subset(n=n, failed=failed, figures=None, interval=None)
    return Subset(
        n=n,
        failed=failed,
        figures=agreement(scores[there], labels[there]),
        interval=srcc_interval(scores[there], labels[there], draws=draws, seed=seed),
    )
