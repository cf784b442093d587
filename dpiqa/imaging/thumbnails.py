"""Thumbnails: small JPEG pictures for people, from the pixels that a decode process made."""

import io

import numpy as np
from PIL import Image

from dpiqa.imaging.preprocessing import Preprocessing

MAX_SIDE = 2048  #: pixels, the largest side of a thumbnail
_QUALITY = 82  #: of 100


def thumbnail_preprocessing(side: int) -> Preprocessing:
    """Return the preprocessing of a thumbnail: the whole picture, its longer side at most `side` pixels."""
    return Preprocessing(width=side, height=side, keeps_ratio=True)


def encode_thumbnail(pixels: np.ndarray) -> bytes:
    """(H, W, 3) uint8 -> bytes of a JPEG file, without metadata."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return buffer.getvalue()
