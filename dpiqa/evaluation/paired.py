"""Scores of several models for the same images, side by side. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dpiqa.errors import InvalidRequest
from dpiqa.evaluation.scored_images import Failure, ScoredImages

MIN_IMAGES = 2  #: that a correlation needs


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
