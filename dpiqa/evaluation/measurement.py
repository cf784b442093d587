"""A scorer measured against people's scores, through the decoding, preprocessing and scorer of production.

A data set is measured on one of its splits, or by the papers' five random splits. The papers train once for each split
and report the median (DP-IQA, section IV-A). Here the model is fixed.
"""

import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dpiqa.datasets.spec import LabelledImage
from dpiqa.errors import InvalidRequest
from dpiqa.evaluation.agreement import METRICS, MIN_IMAGES, Agreement, agreement
from dpiqa.evaluation.intervals import DRAWS, Interval, intervals, rounded, srcc_interval
from dpiqa.evaluation.scored_images import Advance, Failure, ScoredImages, score_labelled
from dpiqa.imaging.decode import Limits
from dpiqa.models.base import Scorer

FIVE_SPLITS = "five-splits"  #: stands for the split in tables and labels
ALL = "all"

#: Scores images: the same scorer, decode pool and progress bar for every data set of a run.
Score = Callable[[Sequence[LabelledImage]], ScoredImages]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subset:
    """Figures of one subset of a data set. `figures` and `interval` are None for fewer than two scored images."""

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
    """Figures of one set of images. Images that could not be scored are counted, never dropped in silence."""

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


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A model on one data set."""

    dataset: str
    split: str  #: train, val, test, all or five-splits
    origin: str  #: of the split, in words
    note: str  #: whether the model has seen these images, as far as it is known
    evaluation: Evaluation  #: over all images that were measured; with five splits, over the union of the test sides
    sides: tuple[Agreement, ...] = ()  #: one per random split

    def headline(self, metric: str) -> float:
        """Return the figure that stands in the table: the median over the splits where there are several."""
        if self.sides:
            return float(statistics.median(getattr(side, metric) for side in self.sides))
        return float(getattr(self.evaluation.overall, metric))

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the single scores, for a report."""
        report: dict[str, Any] = {"dataset": self.dataset, "split": self.split, "origin": self.origin}
        report |= {"note": self.note, **self.evaluation.as_dict()}
        if self.sides:
            medians = {metric: round(self.headline(metric), 4) for metric in METRICS}
            report["five_splits"] = {"median": medians, "sides": [side.as_dict() for side in self.sides]}
        return report


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


def summarise(scored: ScoredImages, *, draws: int = DRAWS, seed: int = 0) -> Evaluation:
    """Compare scores with labels; `draws` and `seed` are the bootstrap's.

    Raises `InvalidRequest` if fewer than two images have a score.
    """
    images, scores, labels = _with_scores(scored)
    line = np.polyfit(scores, labels, 1) if np.ptp(scores) else None
    return Evaluation(
        scorer_id=scored.scorer_id,
        overall=agreement(scores, labels),
        intervals=intervals(scores, labels, draws=draws, seed=seed),
        subsets=_subsets(scored, draws, seed),
        slope=None if line is None else float(line[0]),
        offset=None if line is None else float(line[1]),
        failures=scored.failures,
        scores=scores,
        images=images,
    )


def images_of_split(images: Sequence[LabelledImage], split: str, dataset: str) -> list[LabelledImage]:
    """Return the images of a split; `all`: every one. Raises `InvalidRequest` naming the splits of the data set."""
    if split == ALL:
        return list(images)
    members = [image for image in images if image.split == split]
    if not members:
        splits = ", ".join(sorted({image.split for image in images})) or "none"
        raise InvalidRequest(f"{dataset} has no images of split {split!r}; there are: {splits}", hint="choose --split")
    return members


def measure(
    images: Sequence[LabelledImage],
    score: Score,
    *,
    dataset: str,
    split: str,
    origin: str,
    note: str = "",
    draws: int = DRAWS,
    seed: int = 0,
) -> Measurement:
    """Measure on one split of a data set."""
    scored = score(images_of_split(images, split, dataset))
    evaluation = summarise(scored, draws=draws, seed=seed)
    return Measurement(dataset=dataset, split=split, origin=origin, note=note, evaluation=evaluation)


def measure_five(
    sides: Sequence[Sequence[LabelledImage]],
    score: Score,
    *,
    dataset: str,
    note: str = "",
    draws: int = DRAWS,
    seed: int = 0,
) -> Measurement:
    """Measure on the test sides of several random splits; each image is scored once, whichever sides it is on.

    Only the choice of test images varies over the splits.
    """
    union = {image.path: image for side in sides for image in side}
    scored = score(list(union.values()))
    return Measurement(
        dataset=dataset,
        split=FIVE_SPLITS,
        origin=f"{len(sides)} random splits, seeds {seed} to {seed + len(sides) - 1}",
        note=note,
        evaluation=summarise(scored, draws=draws, seed=seed),
        sides=tuple(agreement(*_with_scores(scored.only(side))[1:]) for side in sides),
    )


def _with_scores(scored: ScoredImages) -> tuple[tuple[LabelledImage, ...], np.ndarray, np.ndarray]:
    """Images that have a score, their scores (n,) and labels (n,). Raises `InvalidRequest` if they are under two."""
    has_score = np.isfinite(scored.scores)
    images = tuple(image for image, keep in zip(scored.images, has_score, strict=True) if keep)
    if len(images) < MIN_IMAGES:
        reason = next((f"; {path}: {failure.reason}" for path, failure in scored.failures.items()), "")
        raise InvalidRequest(
            f"{len(images)} of {len(has_score)} images could be scored{reason}", hint="check the data set's folder"
        )
    return images, scored.scores[has_score], np.array([image.mos for image in images])


def _subsets(scored: ScoredImages, draws: int, seed: int) -> dict[str, Subset]:
    names = np.array([image.subset for image in scored.images])
    labels = np.array([image.mos for image in scored.images])
    subsets = {}
    for name in sorted({str(name) for name in names} - {""}):
        members = names == name
        has_score = members & np.isfinite(scored.scores)
        figures, interval = None, None
        if has_score.sum() >= MIN_IMAGES:
            figures = agreement(scored.scores[has_score], labels[has_score])
            interval = srcc_interval(scored.scores[has_score], labels[has_score], draws=draws, seed=seed)
        n = int(has_score.sum())
        subsets[name] = Subset(n=n, failed=int(members.sum()) - n, figures=figures, interval=interval)
    return subsets
