"""Preprocessing: named, versioned ways to turn an RGB image into a model's input. Independent of torch.

A change in the pixels is a new version: other resize kernels sharpen (1.2 to 6 times the Laplacian energy of
the reference), scaled JPEG decoding blurs (0.88), and both change the input of a quality model.
"""

from enum import StrEnum
from functools import cache

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from pydantic.json_schema import SkipJsonSchema

from dpiqa.extras import require, required_for
from dpiqa.types import Rendition


class ResizeFilter(StrEnum):
    """Resampling kernels in use."""

    BILINEAR = "bilinear"  #: Pillow's antialiased bilinear, the published DP-IQA protocol
    CUBIC_OPENCV = "cubic-opencv"  #: OpenCV's `INTER_CUBIC`, not antialiased, the published PromptIQA protocol


class Preprocessing(BaseModel):
    """Way from an image to model input, upright 8-bit RGB. The aspect ratio is not kept (DP-IQA, section 4.1)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: PositiveInt  #: pixels
    height: PositiveInt  #: pixels
    filter: ResizeFilter = ResizeFilter.BILINEAR
    rendition: Rendition = Field(Rendition.FULL, exclude_if=lambda rendition: rendition is Rendition.FULL)
    #: Thumbnails alone keep the aspect ratio: the whole picture, at most `width` by `height`, never enlarged.
    keeps_ratio: SkipJsonSchema[bool] = Field(default=False, exclude_if=lambda keeps: not keeps)

    @property
    def version(self) -> str:
        """Name stored with every score. The number counts changes of pixels, which `docs/imaging.md` lists."""
        version = f"squash-{self.filter.value}-{self.width}x{self.height}-v2"
        return version if self.rendition is Rendition.FULL else f"{version}+{self.rendition}"

    def admits(self, height: int, width: int) -> bool:
        """Return whether it makes pictures of this size."""
        if self.keeps_ratio:
            return 1 <= height <= self.height and 1 <= width <= self.width
        return (height, width) == (self.height, self.width)

    def rendered(self, rendition: Rendition) -> "Preprocessing":
        """Return the same preprocessing of another rendition."""
        return self if rendition is self.rendition else self.model_copy(update={"rendition": rendition})


def prepare(image: Image.Image, preprocessing: Preprocessing) -> np.ndarray:
    """Upright RGB Pillow image of any size -> (H, W, 3) uint8 array, contiguous.

    Raises `ConfigurationError` where the filter needs a library that is not installed.
    """
    size = (preprocessing.width, preprocessing.height)
    if preprocessing.keeps_ratio:
        share = min(size[0] / image.width, size[1] / image.height, 1.0)
        size = (max(1, round(image.width * share)), max(1, round(image.height * share)))
    if preprocessing.filter is ResizeFilter.CUBIC_OPENCV:
        return np.ascontiguousarray(resize_cubic(np.asarray(image, dtype=np.uint8), *size))
    resized = image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)
    return np.ascontiguousarray(resized, dtype=np.uint8)


def require_opencv() -> None:
    """Raise `ConfigurationError` unless OpenCV is installed. Does not import it."""
    require("cv2", "resizing for PromptIQA models")


def resize_cubic(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """(H, W, 3) uint8 -> (`height`, `width`, 3) uint8 by OpenCV's `INTER_CUBIC`, which PromptIQA was trained with.

    Raises `ConfigurationError` if OpenCV is not installed.
    """
    cv2 = _opencv()
    resized: np.ndarray = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_CUBIC)
    return resized


@cache
def _opencv():  # type: ignore[no-untyped-def]  # noqa: ANN202 - a module
    with required_for("resizing for PromptIQA models"):
        import cv2  # noqa: PLC0415 - an extra
    cv2.setNumThreads(1)  # there is one decode process per core already
    return cv2
