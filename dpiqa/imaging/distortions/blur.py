"""Loss of sharpness."""

import numpy as np
from PIL import Image, ImageFilter

from dpiqa.imaging.distortions.pixels import Distortion, average_shifted, scaled, to_image


def gaussian_blur(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    """Blur without a shape of its own: downscaling, cheap lenses, smoothing."""
    return image.filter(ImageFilter.GaussianBlur(scaled(image, (1.0, 2.0, 3.5, 6.0, 10.0)[level])))


def defocus(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    """Lens out of focus: every point becomes a disc."""
    radius = scaled(image, (1.5, 3.0, 5.0, 8.0, 12.0)[level])
    reach = int(np.ceil(radius))
    offsets = np.arange(-reach, reach + 1)
    down, right = np.meshgrid(offsets, offsets, indexing="ij")
    disc = np.stack([down, right], axis=-1)[np.hypot(down, right) <= radius]
    return average_shifted(image, disc)


def motion_blur(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    """Camera that moved: every point becomes a line; the seed decides in which direction."""
    length = scaled(image, (5.0, 10.0, 16.0, 26.0, 40.0)[level])
    angle = rng.uniform(0, np.pi)
    along = np.arange(-length / 2, length / 2 + 0.5)
    path = np.rint(np.stack([along * np.sin(angle), along * np.cos(angle)], axis=-1)).astype(int)
    return average_shifted(image, path)


def zoom_blur(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    """Camera that moved forward: sharp in the middle, streaks at the edges."""
    reach = (0.02, 0.04, 0.07, 0.11, 0.17)[level]
    width, height = image.size
    total = np.zeros((height, width, 3))
    for zoom in np.linspace(0, reach, 9):
        box = (zoom * width / 2, zoom * height / 2, width * (1 - zoom / 2), height * (1 - zoom / 2))
        total += np.asarray(image.resize(image.size, Image.Resampling.BILINEAR, box=box))
    return to_image(total / 9)


KINDS: dict[str, Distortion] = {
    "gaussian_blur": gaussian_blur,
    "defocus": defocus,
    "motion_blur": motion_blur,
    "zoom_blur": zoom_blur,
}
