"""Exposure, contrast and haze."""

import numpy as np
from PIL import Image, ImageEnhance

from dpiqa.imaging.distortions.pixels import Distortion, to_array, to_image


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


KINDS: dict[str, Distortion] = {
    "overexposure": overexposure,
    "underexposure": underexposure,
    "low_contrast": low_contrast,
    "high_contrast": high_contrast,
    "haze": haze,
    "vignette": vignette,
    "mean_shift": mean_shift,
}
