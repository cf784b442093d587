"""Simple measures of a picture, which say why its score may be low: docs/measures.md defines them.

They are measured on a decoded picture at its own resolution, before it is resized for a model. Of a large picture 16
tiles of 128x128 pixels are measured, spread evenly and aligned with JPEG's grid, so that the cost does not grow with
it. They are independent of any model, and no model uses them.
"""

import math

import numpy as np
from PIL import Image

from dpiqa.imaging.measured import Measures

WHOLE = 512  #: pixels: up to this width and height a picture is measured whole
TILE = 128  #: pixels, a multiple of 8
GRID = 4  #: tiles in a row and in a column
_BLOCK = 8  #: pixels of JPEG's blocks
_REBLUR = 9  #: pixels of the box that a picture is blurred by to measure its sharpness
_DARK, _BRIGHT = 5, 250  #: luma beyond which a pixel counts as clipped
_QUIET = 0.2  #: share of the blocks, the most uniform ones, that noise is measured in
#: Mean absolute response of the noise mask to noise of standard deviation 1: sqrt(2 / pi) * 6, Immerkaer (1996).
_NOISE_GAIN = math.sqrt(2 / math.pi) * 6


def measure(image: Image.Image) -> Measures:
    """Measure a picture: `dpiqa.measure`. About 3 ms of processor time, whatever its size.

    Args:
        image: An upright Pillow picture at its own resolution; a mode other than RGB is converted.

    Returns:
        Its measures. Each depends on one kind of fault, and little on the others (docs/measures.md).

    Example:
        >>> import dpiqa, PIL.Image
        >>> dpiqa.measure(PIL.Image.new("RGB", (64, 64), (0, 0, 0))).clipped_dark
        1.0
    """
    if image.mode != "RGB":
        image = image.convert("RGB")
    tiles = _tiles(image)
    grey = [tile.convert("L") for tile in tiles]
    counts = np.sum([tile.histogram() for tile in grey], axis=0)
    shares = np.cumsum(counts) / counts.sum()
    low, high = np.searchsorted(shares, (0.05, 0.95))
    # A pixel of the reduced tile is the mean of 8x8: the mean colour is the same, at a fraction of the cost.
    small = np.stack([np.asarray(tile.reduce(min(_BLOCK, *tile.size)).convert("YCbCr")) for tile in tiles])
    chroma = small.reshape(-1, 3).mean(axis=0)[1:] - 128
    samples = np.stack([np.asarray(tile) for tile in grey]).astype(np.int16)  # (T, H, W)
    across, down = np.abs(np.diff(samples, axis=2)), np.abs(np.diff(samples, axis=1))
    noise = _noise(samples)
    return Measures(
        width=image.width,
        height=image.height,
        sharpness=_sharpness(samples, across, down, noise),
        contrast=float(high - low) / 255,
        clipped_dark=float(shares[_DARK]),
        clipped_bright=float(counts[_BRIGHT:].sum() / counts.sum()),
        noise=noise,
        blockiness=_blockiness(across, down),
        colour_cast=float(np.hypot(*chroma)) / 128,
    )


def _tiles(image: Image.Image) -> list[Image.Image]:
    if image.width <= WHOLE and image.height <= WHOLE:
        return [image]
    width, height = min(TILE, image.width), min(TILE, image.height)
    lefts, tops = _starts(image.width, width), _starts(image.height, height)
    return [image.crop((left, top, left + width, top + height)) for top in tops for left in lefts]


def _starts(side: int, tile: int) -> list[int]:
    """Return where the tiles of a side begin: the centres of equal parts, on JPEG's grid, each tile once."""
    starts = [(2 * n + 1) * side // (2 * GRID) - tile // 2 for n in range(GRID)]
    return sorted({max(0, min(start, side - tile)) // _BLOCK * _BLOCK for start in starts})


def _sharpness(samples: np.ndarray, across: np.ndarray, down: np.ndarray, noise: float) -> float:
    """Return the share of the gradients that a further blur removes, after Crete et al. (2007).

    What a picture has lost already, a blur cannot take. Gradients count by what exceeds three times the noise.
    """
    floor = 0 if math.isnan(noise) else min(round(3 * noise * _REBLUR), 10_000)
    cut = (_REBLUR - 1) // 2
    shares = []
    for axis, gradients in ((2, across), (1, down)):
        if samples.shape[axis] <= _REBLUR:
            return math.nan
        ahead, behind, inner = [slice(None)] * 3, [slice(None)] * 3, [slice(None)] * 3
        ahead[axis], behind[axis] = slice(_REBLUR, None), slice(None, -_REBLUR)
        inner[axis] = slice(cut, cut + samples.shape[axis] - _REBLUR)
        # Neighbours of a running mean of 9 samples differ by a ninth of this; so all is counted in ninths of a step.
        blurred = np.abs(samples[tuple(ahead)] - samples[tuple(behind)])
        gradient = np.maximum(_REBLUR * gradients[tuple(inner)] - floor, 0)
        whole = int(gradient.sum(dtype=np.int64))
        removed = int(np.maximum(gradient - blurred, 0).sum(dtype=np.int64))
        shares.append(removed / whole if whole else 0.0)
    return min(shares)


def _noise(samples: np.ndarray) -> float:
    """Return the standard deviation of noise by Immerkaer's mask, in the blocks where it responds least."""
    _, height, width = samples.shape
    rows, columns = (height - 2) // _BLOCK, (width - 2) // _BLOCK
    if rows < 1 or columns < 1:
        return math.nan
    second = samples[:, :, :-2] - 2 * samples[:, :, 1:-1] + samples[:, :, 2:]
    response = np.abs(second[:, :-2] - 2 * second[:, 1:-1] + second[:, 2:])
    whole = response[:, : rows * _BLOCK, : columns * _BLOCK]
    sums = whole.reshape(-1, _BLOCK, columns * _BLOCK).sum(axis=1, dtype=np.int32)
    means = sums.reshape(-1, columns, _BLOCK).sum(axis=2) / _BLOCK**2
    return float(np.quantile(means, _QUIET)) / _NOISE_GAIN


def _blockiness(across: np.ndarray, down: np.ndarray) -> float:
    """Return by how much steps on the grid of 8 pixels exceed the others, as a share of these plus one luma step."""
    shares = []
    for steps, axis in ((across, 2), (down, 1)):
        if steps.shape[axis] < 2 * _BLOCK:
            return math.nan
        means = steps.mean(axis=tuple({0, 1, 2} - {axis}), dtype=np.float64)
        on_grid = np.arange(1, means.size + 1) % _BLOCK == 0  # between the last pixel of a block and the next
        shares.append((means[on_grid].mean() - means[~on_grid].mean()) / (means[~on_grid].mean() + 1))
    return max(0.0, float(np.mean(shares)))
