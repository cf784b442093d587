"""A stand-in for a PromptIQA checkpoint that anyone can follow: brightness, learnt from pairs by a straight line."""

from types import SimpleNamespace

import numpy as np

from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.models.base import ModelCard
from dpiqa.types import ModelKind

CARD = ModelCard(
    name="line",
    kind=ModelKind.PROMPTIQA,
    weights="line.safetensors",
    sha256="c" * 64,
    preprocessing=Preprocessing(width=8, height=8),
    licence="none",
)


class LineModel:
    """See `dpiqa.models.base.PromptModel`. A feature is (brightness, score); a scorer fits a line to them."""

    def __init__(self, card=CARD):
        self.card = card
        self.calls = []  #: sizes of the batches of `features`

    def features(self, pixels, scores):
        self.calls.append(len(pixels))
        return np.stack([brightness(pixels), scores], axis=1).astype(np.float32)

    def scorer(self, requirement):
        x, y = requirement.features.T
        slope, offset = np.polyfit(x, y, 1) if np.ptp(x) > 0 else (0.0, y.mean())
        return SimpleNamespace(card=self.card, score=lambda pixels: slope * brightness(pixels) + offset)


def write_line(folder, card=CARD):
    """Write the card into a folder of models; returns the model. Its weights are never read."""
    folder.mkdir(exist_ok=True)
    (folder / f"{card.name}.json").write_text(card.model_dump_json())
    return LineModel(card)


def brightness(pixels):
    return pixels.mean(axis=(1, 2, 3)) / 255
