"""Ways a photograph can be spoiled, each at five strengths, deterministic by seed. numpy and Pillow only.

For demos, tests of models and training with a known order: within one kind, a higher strength is never better.
Blurs and cells scale with the picture, so that a strength means about the same on a thumbnail and on 12 megapixels.
"""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

STRENGTHS = range(1, 6)

#: (upright RGB picture, position of the strength 0-4, random generator) -> RGB picture of the same size
Distortion = Callable[[Image.Image, int, np.random.Generator], Image.Image]


def distort(image: Image.Image, kind: str, strength: int, seed: int = 0) -> Image.Image:
    """Return a spoiled RGB copy of `image`. `kind`: one of `KINDS`; `strength`: 1 (slight) to 5 (severe).

    The same arguments give the same pixels. Raises `ValueError` for an unknown kind or strength.
    """
    if kind not in KINDS:
        raise ValueError(f"no distortion is called {kind!r}; known: {', '.join(KINDS)}")
    if strength not in STRENGTHS:
        raise ValueError(f"strength is 1 to 5, got {strength}")
    return KINDS[kind](image.convert("RGB"), strength - 1, np.random.default_rng(seed))


# blur


def _gaussian_blur(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(_scaled(image, (1.0, 2.0, 3.5, 6.0, 10.0)[level])))


def _defocus(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    radius = _scaled(image, (1.5, 3.0, 5.0, 8.0, 12.0)[level])
    reach = int(np.ceil(radius))
    offsets = np.arange(-reach, reach + 1)
    down, right = np.meshgrid(offsets, offsets, indexing="ij")
    disc = np.stack([down, right], axis=-1)[np.hypot(down, right) <= radius]
    return _average_shifted(image, disc)


def _motion_blur(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    length = _scaled(image, (5.0, 10.0, 16.0, 26.0, 40.0)[level])
    angle = rng.uniform(0, np.pi)
    along = np.arange(-length / 2, length / 2 + 0.5)
    path = np.rint(np.stack([along * np.sin(angle), along * np.cos(angle)], axis=-1)).astype(int)
    return _average_shifted(image, path)


def _zoom_blur(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    reach = (0.02, 0.04, 0.07, 0.11, 0.17)[level]
    width, height = image.size
    total = np.zeros((height, width, 3))
    for zoom in np.linspace(0, reach, 9):
        box = (zoom * width / 2, zoom * height / 2, width * (1 - zoom / 2), height * (1 - zoom / 2))
        total += np.asarray(image.resize(image.size, Image.Resampling.BILINEAR, box=box))
    return _to_image(total / 9)


# noise


def _gaussian_noise(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    pixels = _to_array(image)
    return _to_image(pixels + rng.normal(0, (6, 12, 22, 38, 60)[level], pixels.shape))


def _grey_noise(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    pixels = _to_array(image)
    return _to_image(pixels + rng.normal(0, (7, 14, 26, 44, 68)[level], (*pixels.shape[:2], 1)))


def _shot_noise(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    photons = (300, 100, 40, 16, 6)[level]
    return _to_image(rng.poisson(_to_array(image) / 255 * photons) * 255 / photons)


def _impulse_noise(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    pixels = _to_array(image)
    chance = rng.random(pixels.shape[:2])
    share = (0.005, 0.015, 0.04, 0.09, 0.18)[level]
    pixels[chance < share / 2] = 0
    pixels[chance > 1 - share / 2] = 255
    return _to_image(pixels)


def _speckle_noise(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    pixels = _to_array(image)
    return _to_image(pixels * (1 + rng.normal(0, (0.06, 0.12, 0.22, 0.36, 0.55)[level], pixels.shape)))


# compression and resolution


def _jpeg(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    return _through(image, "JPEG", quality=(40, 22, 13, 8, 4)[level])


def _jpeg2000(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    return _through(image, "JPEG2000", quality_layers=[(30, 60, 110, 200, 380)[level]], irreversible=True)


def _webp(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    small = image.resize(_smaller(image, (1, 1, 1.3, 1.8, 2.6)[level]), Image.Resampling.BILINEAR)
    return _through(small, "WEBP", quality=(25, 10, 5, 2, 0)[level]).resize(image.size, Image.Resampling.BICUBIC)


def _low_resolution(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    small = image.resize(_smaller(image, (1.7, 2.5, 4, 6.5, 10)[level]), Image.Resampling.BILINEAR)
    return small.resize(image.size, Image.Resampling.BICUBIC)


def _pixelate(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    small = image.resize(_smaller(image, _scaled(image, (2, 3, 5, 8, 14)[level])), Image.Resampling.BOX)
    return small.resize(image.size, Image.Resampling.NEAREST)


def _quantise(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    steps = (16, 10, 6, 4, 2)[level]
    return _to_image(np.rint(_to_array(image) / 255 * (steps - 1)) * 255 / (steps - 1))


def _palette(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    colours = (64, 32, 16, 8, 4)[level]
    return image.quantize(colours, Image.Quantize.MEDIANCUT, dither=Image.Dither.FLOYDSTEINBERG).convert("RGB")


# light and colour


def _overexposure(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    return _to_image(_to_array(image) * (1.25, 1.6, 2.1, 2.8, 4.0)[level])


def _underexposure(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    return _to_image(_to_array(image) * (0.75, 0.55, 0.38, 0.24, 0.13)[level])


def _low_contrast(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance((0.75, 0.55, 0.4, 0.26, 0.14)[level])


def _high_contrast(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance((1.35, 1.8, 2.5, 3.6, 6.0)[level])


def _desaturate(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    return ImageEnhance.Color(image).enhance((0.7, 0.5, 0.3, 0.15, 0.0)[level])


def _oversaturate(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    return ImageEnhance.Color(image).enhance((1.6, 2.2, 3.0, 4.5, 7.0)[level])


def _colour_cast(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    direction = rng.permutation([1.0, 0.0, -1.0])
    return _to_image(_to_array(image) + direction * (12, 24, 40, 62, 90)[level])


def _colour_fringe(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    shift = max(level + 1, round(_scaled(image, (1, 2, 4, 7, 11)[level])))
    pixels = _to_array(image)
    red, blue = _shift(pixels[..., :1], 0, shift), _shift(pixels[..., 2:], 0, -shift)
    return _to_image(np.concatenate([red, pixels[..., 1:2], blue], axis=-1))


def _haze(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    return Image.blend(image, Image.new("RGB", image.size, (225, 228, 232)), (0.2, 0.35, 0.5, 0.65, 0.8)[level])


def _vignette(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    width, height = image.size
    across, down = np.linspace(-1, 1, width), np.linspace(-1, 1, height)
    distance = np.hypot(across[None, :], down[:, None])
    light = np.clip(1 - (0.25, 0.45, 0.65, 0.85, 1.1)[level] * distance**2 / 1.2, 0.02, 1)
    return _to_image(_to_array(image) * light[..., None])


# processing and damage


def _oversharpen(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    radius = _scaled(image, 2.0)
    return image.filter(ImageFilter.UnsharpMask(radius, percent=(120, 240, 400, 650, 1000)[level], threshold=0))


def _over_smooth(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    return image.filter(ImageFilter.MedianFilter((3, 5, 7, 11, 15)[level]))


def _lost_blocks(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    spoiled = image.copy()
    pencil = ImageDraw.Draw(spoiled)
    side = max(4, min(image.size) // 16)
    for _ in range((3, 8, 18, 36, 70)[level]):
        left, top = int(rng.integers(0, image.width)), int(rng.integers(0, image.height))
        pencil.rectangle((left, top, left + side, top + side), fill=tuple(rng.integers(0, 256, 3).tolist()))
    return spoiled


def _jitter(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    reach = _scaled(image, (1.0, 2.0, 3.5, 6.0, 10.0)[level])
    pixels = np.asarray(image)
    height, width = pixels.shape[:2]
    down, right = np.rint(rng.uniform(-reach, reach, (2, height, width))).astype(int)
    rows = np.clip(np.arange(height)[:, None] + down, 0, height - 1)
    columns = np.clip(np.arange(width)[None, :] + right, 0, width - 1)
    return Image.fromarray(pixels[rows, columns])


#: Every distortion by name.
KINDS: dict[str, Distortion] = {
    "gaussian_blur": _gaussian_blur,
    "defocus": _defocus,
    "motion_blur": _motion_blur,
    "zoom_blur": _zoom_blur,
    "gaussian_noise": _gaussian_noise,
    "grey_noise": _grey_noise,
    "shot_noise": _shot_noise,
    "impulse_noise": _impulse_noise,
    "speckle_noise": _speckle_noise,
    "jpeg": _jpeg,
    "jpeg2000": _jpeg2000,
    "webp": _webp,
    "low_resolution": _low_resolution,
    "pixelate": _pixelate,
    "quantise": _quantise,
    "palette": _palette,
    "overexposure": _overexposure,
    "underexposure": _underexposure,
    "low_contrast": _low_contrast,
    "high_contrast": _high_contrast,
    "desaturate": _desaturate,
    "oversaturate": _oversaturate,
    "colour_cast": _colour_cast,
    "colour_fringe": _colour_fringe,
    "haze": _haze,
    "vignette": _vignette,
    "oversharpen": _oversharpen,
    "over_smooth": _over_smooth,
    "lost_blocks": _lost_blocks,
    "jitter": _jitter,
}


def _scaled(image: Image.Image, at_512: float) -> float:
    """Return the length in pixels that is `at_512` where the shorter side is 512."""
    return at_512 * min(image.size) / 512


def _smaller(image: Image.Image, factor: float) -> tuple[int, int]:
    return max(1, round(image.width / factor)), max(1, round(image.height / factor))


def _to_array(image: Image.Image) -> np.ndarray:
    return np.array(image, dtype=np.float64)


def _to_image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def _through(image: Image.Image, file_format: str, **options: object) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    with Image.open(buffer) as decoded:
        return decoded.convert("RGB")


def _shift(pixels: np.ndarray, down: int, right: int) -> np.ndarray:
    """Return a shifted copy; the edge repeats."""
    height, width = pixels.shape[:2]
    rows = np.clip(np.arange(height) - down, 0, height - 1)
    columns = np.clip(np.arange(width) - right, 0, width - 1)
    return pixels[rows[:, None], columns[None, :]]


def _average_shifted(image: Image.Image, offsets: np.ndarray) -> Image.Image:
    """Average the copies shifted by each (down, right): a blur with any flat kernel, by FFT; the edge repeats."""
    reach = int(np.abs(offsets).max()) + 1
    pixels = np.pad(np.asarray(image, dtype=np.float64), ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    size = pixels.shape[:2]
    kernel = np.zeros(size)
    kernel[offsets[:, 0], offsets[:, 1]] = 1  # negative offsets wrap around, as the transform does
    transfer = np.fft.rfft2(kernel / kernel.sum())[..., None]
    blurred = np.fft.irfft2(np.fft.rfft2(pixels, axes=(0, 1)) * transfer, s=size, axes=(0, 1))
    return _to_image(blurred[reach:-reach, reach:-reach])
