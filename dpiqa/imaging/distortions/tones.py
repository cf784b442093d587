"""Exposure, contrast, haze and colour."""

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from dpiqa.imaging.distortions.pixels import Distortion, scaled, shift, to_array, to_image


def overexposure(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    """Too much light: highlights burn out."""
    return to_image(to_array(image) * (1.25, 1.6, 2.1, 2.8, 4.0)[level])


def underexposure(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    """Too little light."""
    return to_image(to_array(image) * (0.75, 0.55, 0.38, 0.24, 0.13)[level])


def low_contrast(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    """Everything towards the mean."""
    return ImageEnhance.Contrast(image).enhance((0.75, 0.55, 0.4, 0.26, 0.14)[level])


def high_contrast(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    """Everything away from the mean; both ends clip."""
    return ImageEnhance.Contrast(image).enhance((1.35, 1.8, 2.5, 3.6, 6.0)[level])


def haze(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    """Light veil over everything."""
    return Image.blend(image, Image.new("RGB", image.size, (225, 228, 232)), (0.2, 0.35, 0.5, 0.65, 0.8)[level])


def vignette(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    """Dark corners."""
    width, height = image.size
    across, down = np.linspace(-1, 1, width), np.linspace(-1, 1, height)
    distance = np.hypot(across[None, :], down[:, None])
    light = np.clip(1 - (0.25, 0.45, 0.65, 0.85, 1.1)[level] * distance**2 / 1.2, 0.02, 1)
    return to_image(to_array(image) * light[..., None])


def mean_shift(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    """All samples up or down by the same amount; the seed decides which."""
    return to_image(to_array(image) + rng.choice([-1, 1]) * (12, 24, 40, 60, 85)[level])


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
    "overexposure": overexposure,
    "underexposure": underexposure,
    "low_contrast": low_contrast,
    "high_contrast": high_contrast,
    "haze": haze,
    "vignette": vignette,
    "mean_shift": mean_shift,
    "desaturate": desaturate,
    "oversaturate": oversaturate,
    "colour_cast": colour_cast,
    "colour_fringe": colour_fringe,
    "colour_diffusion": colour_diffusion,
}
