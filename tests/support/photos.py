"""Small images whose mean brightness, and so whose `brightness` score, is known."""

import io

import numpy as np
from PIL import Image


def png(level, size=(64, 64)):
    """Return a grey PNG; `level` 0-1 is its score."""
    return encode(Image.new("L", size, round(level * 255)), "PNG")


def jpeg(level, size=(96, 64), seed=0):
    """Return a JPEG of soft noise round a level."""
    noise = np.random.default_rng(seed).normal(level * 255, 4, (size[1], size[0], 3))
    return encode(Image.fromarray(noise.clip(0, 255).astype(np.uint8)), "JPEG", quality=95)


def encode(image, kind, **options):
    """Return the image's file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
