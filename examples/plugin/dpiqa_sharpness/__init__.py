"""An example of a plug-in for dpiqa: a model that scores how strong the finest details of a picture are."""

import hashlib
from collections.abc import Iterator

import numpy as np

from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.models.base import ModelCard
from dpiqa.types import ModelKind

FORMULA = "1 - exp(-mean absolute Laplacian of the luma / 16)"


class SharpnessScorers:
    """The entry point: which models there are, and how one is loaded."""

    def cards(self) -> Iterator[ModelCard]:
        """Yield one card. Nothing is loaded here: the list of models is shown often."""
        yield ModelCard(
            name="sharpness.laplacian",
            kind=ModelKind.PLUGIN,
            sha256=hashlib.sha256(FORMULA.encode()).hexdigest(),  # of the weights, had it any
            preprocessing=Preprocessing(width=256, height=256),
            score_scale=f"{FORMULA}, 0-1, higher is sharper",
            licence="Apache-2.0",
        )

    def load(self, card: ModelCard, *, device: str, threads: int | None) -> "LaplacianScorer":  # noqa: ARG002
        """Return the scorer. A network would be moved to `device` here."""
        return LaplacianScorer(card)


class LaplacianScorer:
    """The model in memory."""

    def __init__(self, card: ModelCard) -> None:
        self.card = card

    def score(self, pixels: np.ndarray) -> np.ndarray:
        """(B, H, W, 3) uint8 -> (B,) scores."""
        luma = pixels @ np.array([0.299, 0.587, 0.114])
        inner = luma[:, 1:-1, 1:-1]
        around = luma[:, :-2, 1:-1] + luma[:, 2:, 1:-1] + luma[:, 1:-1, :-2] + luma[:, 1:-1, 2:]
        return 1 - np.exp(-np.abs(around - 4 * inner).mean(axis=(1, 2)) / 16)
