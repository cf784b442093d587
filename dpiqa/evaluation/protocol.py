"""How a model is measured on a data set: on one of its splits, or by the papers' five random splits.

The papers train anew on each split and report the median (DP-IQA, section IV-A). Here the model is fixed.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dpiqa.datasets.labelled import LabelledImage
from dpiqa.errors import InvalidRequest
from dpiqa.evaluation.correlation import METRICS, Agreement
from dpiqa.evaluation.evaluate import Evaluation, figures, summarise
from dpiqa.evaluation.intervals import DRAWS
from dpiqa.evaluation.scoring import Scored

FIVE_SPLITS = "five-splits"  #: what stands for the split in tables and labels
ALL = "all"

#: Scores images: the same scorer, decode pool and progress bar for every data set of a run.
Score = Callable[[Sequence[LabelledImage]], Scored]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A model on one data set."""

    dataset: str
    split: str  #: train, val, test, all or five-splits
    origin: str  #: where the split comes from, in words
    note: str  #: what is known of whether the model has seen these images
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


def choose(images: Sequence[LabelledImage], split: str, dataset: str) -> list[LabelledImage]:
    """Return the images of a split; `all`: every one. Raises `InvalidRequest` naming the splits that there are."""
    if split == ALL:
        return list(images)
    chosen = [image for image in images if image.split == split]
    if not chosen:
        there = ", ".join(sorted({image.split for image in images})) or "none"
        raise InvalidRequest(f"{dataset} has no images of split {split!r}; there are: {there}", hint="choose --split")
    return chosen


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
) -> Measured:
    """Measure on one split of a data set."""
    scored = score(choose(images, split, dataset))
    return Measured(
        dataset=dataset,
        split=split,
        origin=origin,
        note=note,
        evaluation=summarise(scored, draws=draws, seed=seed),
    )


def measure_five(
    sides: Sequence[Sequence[LabelledImage]],
    score: Score,
    *,
    dataset: str,
    note: str = "",
    draws: int = DRAWS,
    seed: int = 0,
) -> Measured:
    """Measure on the test sides of several random splits; each image is scored once, whichever sides it is on.

    What varies over the splits is the choice of test images alone.
    """
    union = {image.path: image for side in sides for image in side}
    scored = score(list(union.values()))
    return Measured(
        dataset=dataset,
        split=FIVE_SPLITS,
        origin=f"{len(sides)} random splits, seeds {seed} to {seed + len(sides) - 1}",
        note=note,
        evaluation=summarise(scored, draws=draws, seed=seed),
        sides=tuple(figures(scored.only(side)) for side in sides),
    )
