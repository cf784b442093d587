"""Randomness that belongs to the image. Free of torch."""

import hashlib

import numpy as np


def content_seeds(pixels: np.ndarray) -> list[int]:
    """`pixels` (B, H, W, 3) uint8, as prepared for the model -> a seed an image: 63 bits of its sha256.

    Same bytes of an object, same pixels, same seed: in any batch, worker and precision.
    """
    return [int.from_bytes(hashlib.sha256(image.tobytes()).digest()[:8], "big") >> 1 for image in pixels]
