"""Pictures made of arithmetic, and their encodings."""

import io

import numpy as np
from PIL import Image


def photograph(width=96, height=64, seed=0):
    """A smooth RGB picture with structure in every channel; no two corners are alike."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (8, 12, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image, image_format, **options):
    """Bytes of the image in a format."""
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()
