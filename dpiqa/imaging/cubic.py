"""OpenCV's cubic resize, not antialiased, which PromptIQA was trained with. Free of torch."""

import importlib.util
from functools import cache

import numpy as np

from dpiqa.errors import ConfigurationError


def require_opencv() -> None:
    """Raise `ConfigurationError` unless OpenCV is installed. Does not import it."""
    if importlib.util.find_spec("cv2") is None:
        raise _missing()


def resize_cubic(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """(H, W, 3) uint8 -> (`height`, `width`, 3) uint8 by `INTER_CUBIC`. Raises `ConfigurationError` without OpenCV."""
    cv2 = _opencv()
    resized: np.ndarray = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_CUBIC)
    return resized


@cache
def _opencv():  # type: ignore[no-untyped-def]  # noqa: ANN202 - a module
    try:
        import cv2  # noqa: PLC0415 - an extra
    except ImportError:
        raise _missing() from None
    cv2.setNumThreads(1)  # there is one decode process per core already
    return cv2


def _missing() -> ConfigurationError:
    return ConfigurationError(
        "resizing by cubic-opencv, which PromptIQA models need, takes OpenCV, which is not installed",
        hint="pip install 'dpiqa[promptiqa]'",
    )
