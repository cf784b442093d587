"""Excessive processing and lost parts."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from dpiqa.imaging.distortions.pixels import Distortion, scaled


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
    """Every pixel replaced by a neighbour, as through ribbed glass."""
    reach = scaled(image, (1.0, 2.0, 3.5, 6.0, 10.0)[level])
    pixels = np.asarray(image)
    height, width = pixels.shape[:2]
    down, right = np.rint(rng.uniform(-reach, reach, (2, height, width))).astype(int)
    rows = np.clip(np.arange(height)[:, None] + down, 0, height - 1)
    columns = np.clip(np.arange(width)[None, :] + right, 0, width - 1)
    return Image.fromarray(pixels[rows, columns])


def misplaced_patches(image: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    """Small patches with content from a little beside them; hard to see one by one."""
    distorted = image.copy()
    side = max(3, min(image.size) // 24)
    for _ in range((20, 50, 110, 230, 460)[level]):
        left, top = int(rng.integers(0, image.width)), int(rng.integers(0, image.height))
        right, down = (int(offset) for offset in rng.integers(-side, side + 1, 2))
        patch = image.crop(_inside(image, left + right, top + down, side))
        distorted.paste(patch, (left, top))
    return distorted


KINDS: dict[str, Distortion] = {
    "oversharpen": oversharpen,
    "over_smooth": over_smooth,
    "lost_blocks": lost_blocks,
    "jitter": jitter,
    "misplaced_patches": misplaced_patches,
}


def _inside(image: Image.Image, left: int, top: int, side: int) -> tuple[int, int, int, int]:
    """Box of `side` pixels at the place, moved as far as needed to lie in the picture."""
    left, top = min(max(left, 0), max(image.width - side, 0)), min(max(top, 0), max(image.height - side, 0))
    return left, top, min(left + side, image.width), min(top + side, image.height)
