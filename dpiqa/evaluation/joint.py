"""Several models' scores of the same images, side by side. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dpiqa.errors import InvalidRequest
from dpiqa.evaluation.scoring import Failure, Scored

_FEWEST = 2  #: images that a correlation needs


@dataclass(frozen=True, kw_only=True)
class Joint:
    """The images that every model scored, in the data set's order."""

    names: tuple[str, ...]  #: of the models
    scorers: tuple[str, ...]  #: their ids
    scores: np.ndarray  #: (models, n) float64, MOS/100
    labels: np.ndarray  #: (n,) MOS, 0-1, higher is better
    subsets: np.ndarray  #: (n,) str; "" where the set has none
    failures: dict[Path, Failure]  #: images that some model did not score, with the first model's reason

    def only(self, keep: np.ndarray) -> "Joint":
        """Return the images of a mask (n,) bool, or of rows (n,) int."""
        return Joint(
            names=self.names,
            scorers=self.scorers,
            scores=self.scores[:, keep],
            labels=self.labels[keep],
            subsets=self.subsets[keep],
            failures={},
        )

    def parts(self) -> dict[str, "Joint"]:
        """Return each subset of at least two images, by name; none where the set has no subsets."""
        found = {name: self.subsets == name for name in sorted({*self.subsets.tolist()} - {""})}
        return {name: self.only(keep) for name, keep in found.items() if keep.sum() >= _FEWEST}


def join(scored: Mapping[str, Scored]) -> Joint:
    """Put answers for the same images side by side, by the models' names; what one model failed on leaves all.

    Raises `InvalidRequest` if fewer than two images are left.
    """
    first = next(iter(scored.values()))
    scores = np.stack([one.scores for one in scored.values()])
    there = np.isfinite(scores).all(axis=0)
    failures: dict[Path, Failure] = {}
    for one in scored.values():
        failures = one.failures | failures
    if there.sum() < _FEWEST:
        raise InvalidRequest(
            f"{int(there.sum())} of {len(there)} images were scored by all models", hint="check the data set's folder"
        )
    images = [image for image, is_there in zip(first.images, there, strict=True) if is_there]
    return Joint(
        names=tuple(scored),
        scorers=tuple(one.scorer_id for one in scored.values()),
        scores=scores[:, there],
        labels=np.array([image.mos for image in images]),
        subsets=np.array([image.subset for image in images]),
        failures=failures,
    )
