"""Colours that are too weak, too strong or in the wrong place."""

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from dpiqa.imaging.distortions.pixels import Distortion, scaled, shift, to_array, to_image


def desaturate(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    """Colours towards grey."""
    return ImageEnhance.Color(image).enhance((0.7, 0.5, 0.3, 0.15, 0.0)[level])


def oversaturate(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    """Colours away from grey."""
    return ImageEnhance.Color(image).enhance((1.6, 2.2, 3.0, 4.5, 7.0)[level])


def colour_cast(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    """Wrong white balance; the seed decides towards which colour."""
    direction = rng.permutation([1.0, 0.0, -1.0])
    return to_image(to_array(image) + direction * (12, 24, 40, 62, 90)[level])


def colour_fringe(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    """Red and blue beside each other: lateral chromatic aberration."""
    reach = max(level + 1, round(scaled(image, (1, 2, 4, 7, 11)[level])))
    pixels = to_array(image)
    red, blue = shift(pixels[..., :1], 0, reach), shift(pixels[..., 2:], 0, -reach)
    return to_image(np.concatenate([red, pixels[..., 1:2], blue], axis=-1))


def colour_diffusion(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    """Colours that run over the edges of what they belong to; the brightness stays sharp."""
    radius = scaled(image, (3.0, 8.0, 16.0, 30.0, 60.0)[level])
    brightness, *colours = image.convert("YCbCr").split()
    blurred = [colour.filter(ImageFilter.GaussianBlur(radius)) for colour in colours]
    return Image.merge("YCbCr", [brightness, *blurred]).convert("RGB")


KINDS: dict[str, Distortion] = {
    "desaturate": desaturate,
    "oversaturate": oversaturate,
    "colour_cast": colour_cast,
    "colour_fringe": colour_fringe,
    "colour_diffusion": colour_diffusion,
}
