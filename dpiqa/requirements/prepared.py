"""A requirement as a model takes it: prompt features, made once. Free of torch."""

from dataclasses import dataclass

import numpy as np

from dpiqa.types import Direction


@dataclass(frozen=True, slots=True)
class Stability:
    """Leave-one-out agreement: each pair's image, scored by the prompt features of the other pairs alone."""

    srcc: float | None  #: of the left-out scores with the given ones; None where the model scored all images alike
    mae: float  #: mean absolute difference, in units of the scores (0-1)
    scores: tuple[float, ...]  #: what the others say of each pair, in the pairs' order

    @property
    def is_contradictory(self) -> bool:
        """Whether the others rank the left-out images no better than chance, or the wrong way round."""
        return self.srcc is None or self.srcc <= 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Preparation:
    """What one checkpoint makes of the pairs of a requirement."""

    scorer_id: str  #: of the checkpoint, without a requirement
    features: np.ndarray  #: (N, D) float32, in the pairs' order
    stability: Stability
    contradictions: tuple[str, ...]  #: a sentence each; empty unless the requirement was forced


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PreparedRequirement:
    """The prompt features of one version of a requirement, and what they were made with."""

    name: str
    version: int  #: from 1
    base_scorer_id: str  #: of the checkpoint that made the features, without a requirement's part
    features: np.ndarray  #: (N, D) float32, one row per image-score pair
    direction: Direction

    @property
    def id(self) -> str:
        """How scorers and people name it, e.g. `portraits@1`."""
        return f"{self.name}@{self.version}"


def checkpoint_of(scorer_id: str) -> str:
    """Return model, weights and preprocessing of a scorer: prompt features serve it in any precision."""
    return ":".join(scorer_id.split(":")[:3])
