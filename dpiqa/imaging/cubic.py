"""OpenCV's cubic resize, not antialiased, which PromptIQA was trained with. Free of torch."""

from functools import cache

import numpy as np

from dpiqa.extras import require, required_for


def require_opencv() -> None:
    """Raise `ConfigurationError` unless OpenCV is installed. Does not import it."""
    require("cv2", "resizing for PromptIQA models")


def resize_cubic(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """(H, W, 3) uint8 -> (`height`, `width`, 3) uint8 by `INTER_CUBIC`. Raises `ConfigurationError` without OpenCV."""
    cv2 = _opencv()
    resized: np.ndarray = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_CUBIC)
    return resized


@cache
def _opencv():  # type: ignore[no-untyped-def]  # noqa: ANN202 - a module
    with required_for("resizing for PromptIQA models"):
        import cv2  # noqa: PLC0415 - an extra
    cv2.setNumThreads(1)  # there is one decode process per core already
    return cv2
