"""Compression and lost resolution."""

import numpy as np
from PIL import Image

from dpiqa.imaging.distortions.pixels import Distortion, scaled, smaller, through, to_array, to_image


def jpeg(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    """JPEG at ever lower quality."""
    return through(image, "JPEG", quality=(40, 22, 13, 8, 4)[level])


def jpeg2000(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    """JPEG 2000 at ever higher compression."""
    return through(image, "JPEG2000", quality_layers=[(30, 60, 110, 200, 380)[level]], irreversible=True)


def webp(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    """WebP at ever lower quality, at last on a smaller picture."""
    small = image.resize(smaller(image, (1, 1, 1.3, 1.8, 2.6)[level]), Image.Resampling.BILINEAR)
    return through(small, "WEBP", quality=(25, 10, 5, 2, 0)[level]).resize(image.size, Image.Resampling.BICUBIC)


def low_resolution(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    """Fewer pixels, enlarged smoothly."""
    small = image.resize(smaller(image, (1.7, 2.5, 4, 6.5, 10)[level]), Image.Resampling.BILINEAR)
    return small.resize(image.size, Image.Resampling.BICUBIC)


def pixelate(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    """Fewer pixels, enlarged in squares."""
    small = image.resize(smaller(image, scaled(image, (2, 3, 5, 8, 14)[level])), Image.Resampling.BOX)
    return small.resize(image.size, Image.Resampling.NEAREST)


def quantise(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    """Few levels per colour: bands where there were gradients."""
    steps = (16, 10, 6, 4, 2)[level]
    return to_image(np.rint(to_array(image) / 255 * (steps - 1)) * 255 / (steps - 1))


def palette(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    """Few colours, dithered."""
    colours = (64, 32, 16, 8, 4)[level]
    return image.quantize(colours, Image.Quantize.MEDIANCUT, dither=Image.Dither.FLOYDSTEINBERG).convert("RGB")


KINDS: dict[str, Distortion] = {
    "jpeg": jpeg,
    "jpeg2000": jpeg2000,
    "webp": webp,
    "low_resolution": low_resolution,
    "pixelate": pixelate,
    "quantise": quantise,
    "palette": palette,
}
