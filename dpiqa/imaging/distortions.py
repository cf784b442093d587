"""Distortions of photographs, each at five strengths, deterministic by seed. numpy and Pillow only.

For demos, evaluation, tests of models and training with a known order: within one kind, a higher strength is further
from the original. Blurs and cells scale with the picture, so that a strength means about the same on a thumbnail and on
12 megapixels. There is one for each of the 25 kinds of KADID-10k (Lin et al., QoMEX 2019) and for every synthetic one
that DP-IQA's prompts name, where the name has a definition; `docs/evaluation.md` has the table.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from dpiqa.imaging.pixels import (
    Distortion,
    average_shifted,
    from_ycbcr,
    scaled,
    shift,
    smaller,
    through,
    to_array,
    to_image,
)

STRENGTHS = range(1, 6)


def distort(image: Image.Image, kind: str, strength: int, seed: int = 0) -> Image.Image:
    """Return a distorted RGB copy of `image`. `kind`: one of `KINDS`; `strength`: 1 (slight) to 5 (severe).

    The same arguments give the same pixels. Raises `ValueError` for an unknown kind or strength.
    """
    if kind not in KINDS:
        raise ValueError(f"no distortion is called {kind!r}; known: {', '.join(KINDS)}")
    if strength not in STRENGTHS:
        raise ValueError(f"strength is 1 to 5, got {strength}")
    return KINDS[kind](image.convert("RGB"), strength - 1, np.random.default_rng(seed))


# Loss of sharpness.


def gaussian_blur(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    """Isotropic blur: downscaling, cheap lenses, smoothing."""
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


# Noise of sensors and transmission, and its remains after denoising.


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


# Compression and lost resolution.


def jpeg(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    """JPEG at ever lower quality."""
    return through(image, "JPEG", quality=(40, 22, 13, 8, 4)[level])


def jpeg2000(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    """JPEG 2000 at ever higher compression."""
    return through(image, "JPEG2000", quality_layers=[(30, 60, 110, 200, 380)[level]], irreversible=True)


def webp(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    """WebP at ever lower quality, at higher levels on a smaller picture."""
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


# Exposure, contrast, haze and colour.


def overexposure(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    """Too much light: highlights burn out."""
    return to_image(to_array(image) * (1.25, 1.6, 2.1, 2.8, 4.0)[level])


def underexposure(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    """Too little light."""
    return to_image(to_array(image) * (0.75, 0.55, 0.38, 0.24, 0.13)[level])


def low_contrast(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    """Lower contrast."""
    return ImageEnhance.Contrast(image).enhance((0.75, 0.55, 0.4, 0.26, 0.14)[level])


def high_contrast(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    """Raise contrast; both ends clip."""
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
    """Colours that bleed over edges; the brightness stays sharp."""
    radius = scaled(image, (3.0, 8.0, 16.0, 30.0, 60.0)[level])
    brightness, *colours = image.convert("YCbCr").split()
    blurred = [colour.filter(ImageFilter.GaussianBlur(radius)) for colour in colours]
    return Image.merge("YCbCr", [brightness, *blurred]).convert("RGB")


# Excessive processing and lost parts.


def oversharpen(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    """Halos along edges."""
    radius = scaled(image, 2.0)
    return image.filter(ImageFilter.UnsharpMask(radius, percent=(120, 240, 400, 650, 1000)[level], threshold=0))


def over_smooth(image: Image.Image, level: int, _rng: np.random.Generator) -> Image.Image:
    """Detail smeared away, edges kept: heavy denoising."""
    return image.filter(ImageFilter.MedianFilter((3, 5, 7, 11, 15)[level]))


def lost_blocks(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    """Blocks of one colour where data was lost."""
    distorted = image.copy()
    pencil = ImageDraw.Draw(distorted)
    side = max(4, min(image.size) // 16)
    for _ in range((3, 8, 18, 36, 70)[level]):
        left, top = int(rng.integers(0, image.width)), int(rng.integers(0, image.height))
        pencil.rectangle((left, top, left + side, top + side), fill=tuple(rng.integers(0, 256, 3).tolist()))
    return distorted


def jitter(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    """Every pixel replaced by a neighbour, like frosted glass."""
    reach = scaled(image, (1.0, 2.0, 3.5, 6.0, 10.0)[level])
    pixels = np.asarray(image)
    height, width = pixels.shape[:2]
    down, right = np.rint(rng.uniform(-reach, reach, (2, height, width))).astype(int)
    rows = np.clip(np.arange(height)[:, None] + down, 0, height - 1)
    columns = np.clip(np.arange(width)[None, :] + right, 0, width - 1)
    return Image.fromarray(pixels[rows, columns])


def misplaced_patches(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    """Small patches replaced by content from close beside them; each is hard to see."""
    distorted = image.copy()
    side = max(3, min(image.size) // 24)
    for _ in range((20, 50, 110, 230, 460)[level]):
        left, top = int(rng.integers(0, image.width)), int(rng.integers(0, image.height))
        right, down = (int(offset) for offset in rng.integers(-side, side + 1, 2))
        x = min(max(left + right, 0), max(image.width - side, 0))  # moved as far as needed to lie in the picture
        y = min(max(top + down, 0), max(image.height - side, 0))
        patch = image.crop((x, y, min(x + side, image.width), min(y + side, image.height)))
        distorted.paste(patch, (left, top))
    return distorted


#: Every distortion by name.
KINDS: dict[str, Distortion] = {
    "gaussian_blur": gaussian_blur,
    "defocus": defocus,
    "motion_blur": motion_blur,
    "zoom_blur": zoom_blur,
    "gaussian_noise": gaussian_noise,
    "grey_noise": grey_noise,
    "shot_noise": shot_noise,
    "impulse_noise": impulse_noise,
    "speckle_noise": speckle_noise,
    "chroma_noise": chroma_noise,
    "pink_noise": pink_noise,
    "denoised_noise": denoised_noise,
    "jpeg": jpeg,
    "jpeg2000": jpeg2000,
    "webp": webp,
    "low_resolution": low_resolution,
    "pixelate": pixelate,
    "quantise": quantise,
    "palette": palette,
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
    "oversharpen": oversharpen,
    "over_smooth": over_smooth,
    "lost_blocks": lost_blocks,
    "jitter": jitter,
    "misplaced_patches": misplaced_patches,
}
