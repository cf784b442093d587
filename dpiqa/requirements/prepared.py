"""A requirement as a model takes it: prompt features, made once. Free of torch."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np


class Direction(StrEnum):
    """How the scores of a requirement are to be read. PromptIQA gives back the scale of its pairs, whichever it is."""

    HIGHER = "higher is better"
    LOWER = "lower is better"


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
