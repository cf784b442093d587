"""Scorers that misbehave on command. The first sample of an image selects how."""

import threading
import time

import numpy as np

from dpiqa.errors import DeviceMemoryError
from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.models.brightness import BRIGHTNESS

SIDE = 4
NAN, POISON, BROKEN, HANG, NAN_IN_COMPANY = 251, 252, 253, 254, 250


def image(value: int) -> np.ndarray:
    return np.full((SIDE, SIDE, 3), value, dtype=np.uint8)


class OddScorer:
    """Score: the first sample / 255."""

    card = BRIGHTNESS.model_copy(update={"preprocessing": Preprocessing(width=SIDE, height=SIDE)})

    def __init__(self, *, fits: int = 1000, release: threading.Event | None = None) -> None:
        self.fits, self.release = fits, release
        self.batches: list[int] = []

    def score(self, pixels: np.ndarray) -> np.ndarray:
        self.batches.append(len(pixels))
        if self.release is not None:
            assert self.release.wait(20)
        if len(pixels) > self.fits:
            raise DeviceMemoryError(f"{len(pixels)} images do not fit")
        values = pixels[:, 0, 0, 0]
        if POISON in values:
            raise ValueError("poison")
        if BROKEN in values:
            raise RuntimeError("CUDA error: device-side assert triggered")
        if HANG in values:
            time.sleep(1.0)
        scores = values.astype(np.float64) / 255
        scores[values == NAN] = np.nan
        if len(values) > 1:
            scores[values == NAN_IN_COMPANY] = np.inf
        return scores
