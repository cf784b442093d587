"""Named, versioned ways to turn an RGB image into a model's input. Free of torch.

A change in the pixels is a new version: other resize kernels sharpen (1.2 to 6 times the Laplacian energy of
the reference), scaled JPEG decoding blurs (0.88), and either is another input to a quality model.
"""

from enum import StrEnum

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, PositiveInt

from dpiqa.imaging.cubic import resize_cubic


class ResizeFilter(StrEnum):
    """Resampling kernels in use."""

    BILINEAR = "bilinear"  #: Pillow's antialiased bilinear, the published DP-IQA protocol
    CUBIC_OPENCV = "cubic-opencv"  #: OpenCV's `INTER_CUBIC`, not antialiased, the published PromptIQA protocol


class Preprocessing(BaseModel):
    """How an upright 8-bit RGB image becomes model input. Aspect ratio is not kept (DP-IQA, section 4.1)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: PositiveInt  #: pixels
    height: PositiveInt  #: pixels
    filter: ResizeFilter = ResizeFilter.BILINEAR

    @property
    def version(self) -> str:
        """Name stored with every score. The trailing number counts changes of the code below."""
        return f"squash-{self.filter.value}-{self.width}x{self.height}-v1"


def prepare(image: Image.Image, preprocessing: Preprocessing) -> np.ndarray:
    """Upright RGB Pillow image of any size -> (H, W, 3) uint8 array, contiguous.

    Raises `ConfigurationError` where the filter needs a library that is not installed.
    """
    size = (preprocessing.width, preprocessing.height)
    if preprocessing.filter is ResizeFilter.CUBIC_OPENCV:
        return np.ascontiguousarray(resize_cubic(np.asarray(image, dtype=np.uint8), *size))
    resized = image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)
    return np.ascontiguousarray(resized, dtype=np.uint8)
