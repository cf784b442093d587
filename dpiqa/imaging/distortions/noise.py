"""Noise of sensors and transmission, and its remains after denoising."""

import numpy as np
from PIL import Image, ImageFilter

from dpiqa.imaging.distortions.pixels import Distortion, from_ycbcr, to_array, to_image


def gaussian_noise(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    """Independent noise of each sample."""
    pixels = to_array(image)
    return to_image(pixels + rng.normal(0, (6, 12, 22, 38, 60)[level], pixels.shape))


def grey_noise(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    """Noise of brightness alone."""
    pixels = to_array(image)
    return to_image(pixels + rng.normal(0, (7, 14, 26, 44, 68)[level], (*pixels.shape[:2], 1)))


def shot_noise(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    """Too few photons: noise that grows with the root of the light."""
    photons = (300, 100, 40, 16, 6)[level]
    return to_image(rng.poisson(to_array(image) / 255 * photons) * 255 / photons)


def impulse_noise(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    """Dead and hot pixels: salt and pepper."""
    pixels = to_array(image)
    chance = rng.random(pixels.shape[:2])
    share = (0.005, 0.015, 0.04, 0.09, 0.18)[level]
    pixels[chance < share / 2] = 0
    pixels[chance > 1 - share / 2] = 255
    return to_image(pixels)


def speckle_noise(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    """Noise in proportion to the light."""
    pixels = to_array(image)
    return to_image(pixels * (1 + rng.normal(0, (0.06, 0.12, 0.22, 0.36, 0.55)[level], pixels.shape)))


def chroma_noise(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    """Noise in the colours alone, as after strong denoising of the brightness."""
    pixels = to_array(image.convert("YCbCr"))
    pixels[..., 1:] += rng.normal(0, (8, 16, 28, 46, 72)[level], (*pixels.shape[:2], 2))
    return from_ycbcr(pixels)


def pink_noise(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    """Blotches rather than grains: the noise's amplitude falls with its frequency."""
    pixels = to_array(image)
    height, width = pixels.shape[:2]
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = np.inf  # no change of the mean
    white = np.fft.rfft2(rng.normal(0, 1, (height, width)))
    pink = np.fft.irfft2(white / frequency, s=(height, width))
    deviation = max(float(pink.std()), 1e-9)  # a picture of one pixel has no frequencies
    return to_image(pixels + pink[..., None] / deviation * (6, 12, 20, 32, 48)[level])


def denoised_noise(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    """Noise, then a filter that removes it together with the detail."""
    noisy = gaussian_noise(image, level, rng)
    return noisy.filter(ImageFilter.MedianFilter((3, 3, 5, 7, 9)[level]))


KINDS: dict[str, Distortion] = {
    "gaussian_noise": gaussian_noise,
    "grey_noise": grey_noise,
    "shot_noise": shot_noise,
    "impulse_noise": impulse_noise,
    "speckle_noise": speckle_noise,
    "chroma_noise": chroma_noise,
    "pink_noise": pink_noise,
    "denoised_noise": denoised_noise,
}
