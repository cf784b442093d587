"""Pixel operations shared by the distortions."""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image

#: (upright RGB picture, position of the strength 0-4, random generator) -> RGB picture of the same size
Distortion = Callable[[Image.Image, int, np.random.Generator], Image.Image]


def scaled(image: Image.Image, at_512: float) -> float:
    """Return the length in pixels that is `at_512` where the shorter side is 512."""
    return at_512 * min(image.size) / 512


def smaller(image: Image.Image, factor: float) -> tuple[int, int]:
    """Return the size that is `factor` times smaller, at least one pixel."""
    return max(1, round(image.width / factor)), max(1, round(image.height / factor))


def to_array(image: Image.Image) -> np.ndarray:
    """RGB picture -> (H, W, 3) float64, 0-255."""
    return np.array(image, dtype=np.float64)


def to_image(pixels: np.ndarray) -> Image.Image:
    """(H, W, 3) samples -> RGB picture, rounded and clipped to 0-255."""
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def through(image: Image.Image, file_format: str, **options: object) -> Image.Image:
    """Encode and decode in the named format with these options of Pillow's."""
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    with Image.open(buffer) as decoded:
        return decoded.convert("RGB")


def shift(pixels: np.ndarray, down: int, right: int) -> np.ndarray:
    """Return a shifted copy; the edge repeats."""
    height, width = pixels.shape[:2]
    rows = np.clip(np.arange(height) - down, 0, height - 1)
    columns = np.clip(np.arange(width) - right, 0, width - 1)
    return pixels[rows[:, None], columns[None, :]]


def average_shifted(image: Image.Image, offsets: np.ndarray) -> Image.Image:
    """Average the copies shifted by each (down, right): a blur with any flat kernel, by FFT; the edge repeats."""
    reach = int(np.abs(offsets).max()) + 1
    pixels = np.pad(np.asarray(image, dtype=np.float64), ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    size = pixels.shape[:2]
    kernel = np.zeros(size)
    kernel[offsets[:, 0], offsets[:, 1]] = 1  # negative offsets wrap around, as the transform does
    transfer = np.fft.rfft2(kernel / kernel.sum())[..., None]
    blurred = np.fft.irfft2(np.fft.rfft2(pixels, axes=(0, 1)) * transfer, s=size, axes=(0, 1))
    return to_image(blurred[reach:-reach, reach:-reach])


def from_ycbcr(pixels: np.ndarray) -> Image.Image:
    """Make an RGB picture of (H, W, 3) samples of luma and two colour differences, 0-255."""
    samples = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    planes = [Image.fromarray(np.ascontiguousarray(samples[..., index])) for index in range(3)]
    return Image.merge("YCbCr", planes).convert("RGB")
