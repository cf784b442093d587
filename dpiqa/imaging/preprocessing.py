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
    HAMMING = "hamming"  #: Pillow's: as fast, and what it reduces stays sharper
    CUBIC_OPENCV = "cubic-opencv"  #: OpenCV's `INTER_CUBIC`, not antialiased, the published PromptIQA protocol


_OF_PILLOW = {
    ResizeFilter.BILINEAR: Image.Resampling.BILINEAR,
    ResizeFilter.HAMMING: Image.Resampling.HAMMING,
}


class Preprocessing(BaseModel):
    """Way from an image to model input, upright 8-bit RGB. The aspect ratio is not kept (DP-IQA, section 4.1).

    A picture that is enlarged looks blurred to a quality model, and one that is enlarged in one direction only does,
    too. `enlarge_to` bounds that.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: PositiveInt  #: pixels
    height: PositiveInt  #: pixels
    filter: ResizeFilter = ResizeFilter.BILINEAR
    #: Shorter sides are enlarged to so many pixels at most, and mirror images of the picture fill the rest, half of it
    #: on each side; None: every picture is stretched to `width` by `height`.
    enlarge_to: PositiveInt | None = Field(None, exclude_if=lambda pixels: pixels is None)
    rendition: Rendition = Field(Rendition.FULL, exclude_if=lambda rendition: rendition is Rendition.FULL)
    #: Thumbnails alone keep the aspect ratio: the whole picture, at most `width` by `height`, never enlarged.
    keeps_ratio: SkipJsonSchema[bool] = Field(default=False, exclude_if=lambda keeps: not keeps)

    @property
    def version(self) -> str:
        """Name stored with every score. The number counts changes of pixels, which `docs/imaging.md` lists."""
        way = "squash" if self.enlarge_to is None else f"fill{self.enlarge_to}"
        version = f"{way}-{self.filter.value}-{self.width}x{self.height}-v2"
        return version if self.rendition is Rendition.FULL else f"{version}+{self.rendition}"

    def admits(self, height: int, width: int) -> bool:
        """Return whether it makes pictures of this size."""
        if self.keeps_ratio:
            return 1 <= height <= self.height and 1 <= width <= self.width
        return (height, width) == (self.height, self.width)

    def picture_size(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height of a picture of this size in the input, without its mirror images."""
        if self.keeps_ratio:
            share = min(self.width / width, self.height / height, 1.0)
            return max(1, round(width * share)), max(1, round(height * share))
        if self.enlarge_to is None:
            return self.width, self.height
        return min(max(width, self.enlarge_to), self.width), min(max(height, self.enlarge_to), self.height)

    def rendered(self, rendition: Rendition) -> "Preprocessing":
        """Return the same preprocessing of another rendition."""
        return self if rendition is self.rendition else self.model_copy(update={"rendition": rendition})


def prepare(image: Image.Image, preprocessing: Preprocessing) -> np.ndarray:
    """Upright RGB Pillow image of any size -> (H, W, 3) uint8 array, contiguous.

    Raises `ConfigurationError` where the filter needs a library that is not installed.
    """
    size = preprocessing.picture_size(image.width, image.height)
    if preprocessing.filter is ResizeFilter.CUBIC_OPENCV:
        pixels = resize_cubic(np.asarray(image, dtype=np.uint8), *size)
    else:
        resized = image if image.size == size else image.resize(size, _OF_PILLOW[preprocessing.filter])
        pixels = np.asarray(resized, dtype=np.uint8)
    if not preprocessing.keeps_ratio:
        pixels = filled(pixels, preprocessing.width, preprocessing.height)
    return np.ascontiguousarray(pixels)


def filled(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Put a picture (h, w, 3) in the middle of (`height`, `width`, 3); mirror images of it fill the rest."""
    if pixels.shape[:2] == (height, width):
        return pixels
    down, right = height - pixels.shape[0], width - pixels.shape[1]
    sides = ((down // 2, down - down // 2), (right // 2, right - right // 2), (0, 0))
    return np.pad(pixels, sides, mode="symmetric")


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
