"""Spread of a model's scores over views of a picture: how sure it is of its score, by itself."""

from collections.abc import Callable

import numpy as np
from PIL import Image

from dpiqa.models.base import ModelCard, Scorer

_INSIDE = 7 / 8  #: side of a crop, of the picture's


class ViewSpread:
    """A scorer in form: its score is the deviation of another one's scores over `VIEWS` of the prepared picture."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    @property
    def card(self) -> ModelCard:
        """The model whose scores spread."""
        return self._scorer.card

    def score(self, pixels: np.ndarray) -> np.ndarray:
        """(B, H, W, 3) uint8 -> standard deviation over the views, (B,) float64, MOS/100. Raises as the scorer."""
        by_view = [self._scorer.score(np.stack([view(image) for image in pixels])) for view in VIEWS.values()]
        deviations: np.ndarray = np.std(by_view, axis=0)
        return deviations


def _mirrored(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image[:, ::-1])


def _crop(right: bool, down: bool) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that crops a corner of (H, W, 3) uint8 and enlarges it to the same size."""

    def crop(image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        rows, columns = round(_INSIDE * height), round(_INSIDE * width)
        top, left = (height - rows) * down, (width - columns) * right
        part = Image.fromarray(image[top : top + rows, left : left + columns])
        return np.asarray(part.resize((width, height), Image.Resampling.BILINEAR))

    return crop


#: Views by name: of (H, W, 3) uint8, the same.
VIEWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "whole": lambda image: image,
    "mirrored": _mirrored,
    "upper left": _crop(right=False, down=False),
    "upper right": _crop(right=True, down=False),
    "lower left": _crop(right=False, down=True),
    "lower right": _crop(right=True, down=True),
}
