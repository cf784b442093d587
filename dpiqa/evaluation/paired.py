"""Scores of several models for the same images, and the disagreement of two of them. Pure.

Scores decide by cut-offs. A score or MOS equal to a cut-off is above it. Where a profile has two cut-offs (drop, look
at, keep), a decision is the same only on one side of both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dpiqa.errors import InvalidRequest
from dpiqa.evaluation.agreement import MIN_IMAGES, srcc
from dpiqa.evaluation.intervals import DRAWS, Estimate, bootstrap
from dpiqa.evaluation.scored_images import Failure, ScoredImages

_RANGES = 5  #: of the first model's scores: its fifths


@dataclass(frozen=True, kw_only=True)
class PairedScores:
    """The images that every model scored, in the data set's order."""

    names: tuple[str, ...]  #: of the models
    scorers: tuple[str, ...]  #: their ids
    scores: np.ndarray  #: (models, n) float64, MOS/100
    labels: np.ndarray  #: (n,) MOS, 0-1, higher is better
    subsets: np.ndarray  #: (n,) str; "" where the set has none
    failures: dict[Path, Failure]  #: images that some model did not score, with the first model's reason

    def only(self, keep: np.ndarray) -> "PairedScores":
        """Return some of the images: `keep` is a mask (n,) bool or rows (m,) int."""
        return PairedScores(
            names=self.names,
            scorers=self.scorers,
            scores=self.scores[:, keep],
            labels=self.labels[keep],
            subsets=self.subsets[keep],
            failures={},
        )

    def by_subset(self) -> dict[str, "PairedScores"]:
        """Return each subset of at least two images, by name; empty where the set has no subsets."""
        masks = {name: self.subsets == name for name in sorted({*self.subsets.tolist()} - {""})}
        return {name: self.only(mask) for name, mask in masks.items() if mask.sum() >= MIN_IMAGES}


def pair_scores(scored: Mapping[str, ScoredImages]) -> PairedScores:
    """Put scores of the same images side by side, by the models' names; an image that one model failed on is left out.

    Raises `InvalidRequest` if fewer than two images are left.
    """
    models = list(scored.values())
    scores = np.stack([model.scores for model in models])
    complete = np.isfinite(scores).all(axis=0)
    failures: dict[Path, Failure] = {}
    for model in models:
        failures = model.failures | failures
    if complete.sum() < MIN_IMAGES:
        raise InvalidRequest(
            f"{int(complete.sum())} of {len(complete)} images were scored by all models",
            hint="check the data set's folder",
        )
    images = [image for image, keep in zip(models[0].images, complete, strict=True) if keep]
    return PairedScores(
        names=tuple(scored),
        scorers=tuple(model.scorer_id for model in models),
        scores=scores[:, complete],
        labels=np.array([image.mos for image in images]),
        subsets=np.array([image.subset for image in images]),
        failures=failures,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Difference of two models over some of the images: second minus first, MOS/100."""

    name: str  #: of the images
    n: int
    mean_difference: float
    mean_absolute: float
    opposite: float | None  #: share on opposite sides of some cut-off; None without cut-offs

    def as_dict(self) -> dict[str, Any]:
        """Return it for a card or a report."""
        opposite = {} if self.opposite is None else {"opposite_sides": round(self.opposite, 4)}
        return {
            "n": self.n,
            "mean_difference": round(self.mean_difference, 4),
            "mean_absolute_difference": round(self.mean_absolute, 4),
        } | opposite


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """The second model against the first."""

    srcc: Estimate  #: between their scores
    whole: Difference
    p95_absolute: float  #: 95 % of the images differ by at most this
    by_subset: tuple[Difference, ...]
    by_range: tuple[Difference, ...]  #: fifths of the first's scores, lowest first

    @property
    def largest(self) -> dict[str, Difference]:
        """Subset and range with the largest mean absolute difference, where there are any."""
        groups = {"subset": self.by_subset, "range": self.by_range}
        return {
            kind: max(differences, key=lambda difference: difference.mean_absolute)
            for kind, differences in groups.items()
            if differences
        }

    def as_dict(self) -> dict[str, Any]:
        """Return it for a card or a report."""
        return {
            "srcc": self.srcc.as_dict(),
            **self.whole.as_dict(),
            "p95_absolute_difference": round(self.p95_absolute, 4),
            "largest": {kind: difference.name for kind, difference in self.largest.items()},
            "subsets": {difference.name: difference.as_dict() for difference in self.by_subset},
            "ranges": [{"scores": difference.name, **difference.as_dict()} for difference in self.by_range],
        }


def sides(scores: np.ndarray, cutoffs: Sequence[float]) -> np.ndarray:
    """`scores` (N,) -> (N, cut-offs) bool, whether each is at or above each cut-off."""
    return np.asarray(scores)[:, None] >= np.asarray(cutoffs, dtype=np.float64)[None, :]


def same_side(scores: np.ndarray, others: np.ndarray, cutoffs: Sequence[float]) -> np.ndarray:
    """Both (N,) -> (N,) bool, whether both are on one side of every cut-off."""
    same: np.ndarray = (sides(scores, cutoffs) == sides(others, cutoffs)).all(axis=1)
    return same


def disagreement(
    first: np.ndarray,
    second: np.ndarray,
    subsets: np.ndarray,
    cutoffs: Sequence[float] = (),
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Disagreement:
    """Compare scores of two models, (N,) each, N >= 2, of images whose subsets are (N,) str ("": none)."""
    intervals = bootstrap(lambda rows: {"srcc": srcc(first[rows], second[rows])}, len(first), draws=draws, seed=seed)
    names = sorted({*subsets.tolist()} - {""})
    everything = np.ones(len(first), dtype=bool)
    return Disagreement(
        srcc=Estimate(srcc(first, second), intervals.get("srcc")),
        whole=_difference("all", first, second, everything, cutoffs),
        p95_absolute=float(np.quantile(np.abs(second - first), 0.95)),
        by_subset=tuple(_difference(name, first, second, subsets == name, cutoffs) for name in names),
        by_range=tuple(_difference(name, first, second, mask, cutoffs) for name, mask in _ranges(first)),
    )


def _ranges(scores: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Fifths of the scores by name, e.g. `0.21 to 0.38`, lowest first; each image is in one; none is empty."""
    bounds = np.quantile(scores, np.linspace(0, 1, _RANGES + 1))
    fifths = np.searchsorted(bounds[1:-1], scores, side="right")
    masks = [fifths == number for number in set(fifths)]
    ranges = [(f"{scores[mask].min():.2f} to {scores[mask].max():.2f}", mask) for mask in masks]
    return sorted(ranges, key=lambda item: float(scores[item[1]].min()))


def _difference(
    name: str, first: np.ndarray, second: np.ndarray, mask: np.ndarray, cutoffs: Sequence[float]
) -> Difference:
    differences = second[mask] - first[mask]
    opposite = 1 - float(same_side(first[mask], second[mask], cutoffs).mean()) if cutoffs else None
    return Difference(
        name=name,
        n=int(mask.sum()),
        mean_difference=float(differences.mean()),
        mean_absolute=float(np.abs(differences).mean()),
        opposite=opposite,
    )
