"""`brightness`: a known function of the pixels, for tests and smoke runs of the system without torch."""

import hashlib

import numpy as np

from dpiqa.errors import CheckpointError
from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.models.base import ModelCard, require_shape
from dpiqa.types import ModelKind

BRIGHTNESS = ModelCard(
    name="brightness",
    kind=ModelKind.PIXELS,
    sha256=hashlib.sha256(b"mean of all samples / 255").hexdigest(),
    preprocessing=Preprocessing(width=64, height=64),
    score_scale="mean of all samples / 255, 0-1; says nothing about quality",
    licence="Apache-2.0",
    notes="For tests and smoke runs only: the score is the picture's mean brightness.",
)

BUILT_IN = {BRIGHTNESS.name: BRIGHTNESS}


class BrightnessScorer:
    """Scorer of the mean brightness: the mean of all samples / 255."""

    def __init__(self, card: ModelCard) -> None:
        if card.name not in BUILT_IN:
            raise CheckpointError(
                f"there is no pixel function called {card.name}", hint=f"known: {', '.join(BUILT_IN)}"
            )
        self.card = card

    def score(self, pixels: np.ndarray) -> np.ndarray:
        """See `Scorer.score`."""
        require_shape(pixels, self.card)
        means: np.ndarray = pixels.mean(axis=(1, 2, 3), dtype=np.float64)
        return means / 255
