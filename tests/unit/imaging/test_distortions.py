from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from dpiqa.imaging.distortions import KINDS, STRENGTHS, distort

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def photo():
    """A picture with smooth parts, edges, texture and colour."""
    rng = np.random.default_rng(0)
    down, right = np.mgrid[0:320, 0:352] / 352
    pixels = np.stack([0.2 + 0.6 * right, 0.5 + 0.3 * np.sin(40 * down), 0.3 + 0.4 * down * right], axis=-1)
    pixels[90:200, 110:220] = (0.85, 0.3, 0.2)
    pixels[220:, :140] += rng.normal(0, 0.12, (100, 140, 3))
    return Image.fromarray((np.clip(pixels, 0, 1) * 255).astype(np.uint8))


def distance(distorted, original):
    """Root mean squared difference, in levels of 255."""
    return np.sqrt(np.square(np.asarray(distorted, float) - np.asarray(original, float)).mean())


#: The kinds of KADID-10k, in its order, by our names. (Brightening and darkening there follow a curve, here a factor.)
KADID = [
    "gaussian_blur",
    "defocus",
    "motion_blur",
    "colour_diffusion",
    "colour_fringe",
    "palette",
    "desaturate",
    "oversaturate",
    "jpeg2000",
    "jpeg",
    "gaussian_noise",
    "chroma_noise",
    "impulse_noise",
    "speckle_noise",
    "denoised_noise",
    "overexposure",
    "underexposure",
    "mean_shift",
    "jitter",
    "misplaced_patches",
    "pixelate",
    "quantise",
    "lost_blocks",
    "oversharpen",
    "low_contrast",
]


def test_every_kind_of_kadid_is_there():
    assert len(KADID) == 25
    assert set(KADID) <= set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_stronger_is_further_from_the_original(photo, kind):
    distances = [distance(distort(photo, kind, strength, seed=3), photo) for strength in STRENGTHS]
    assert all(weaker < stronger for weaker, stronger in pairwise(distances)), distances
    assert 1.05 * distances[0] < distances[-1]


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides(photo, kind):
    first, again = distort(photo, kind, 3, seed=1), distort(photo, kind, 3, seed=1)
    assert first.tobytes() == again.tobytes()
    assert first.size == photo.size
    assert first.mode == "RGB"


def test_other_seeds_give_other_noise(photo):
    assert (
        distort(photo, "gaussian_noise", 3, seed=1).tobytes() != distort(photo, "gaussian_noise", 3, seed=2).tobytes()
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_tiny_picture_of_another_mode_is_no_problem(kind):
    assert distort(Image.new("L", (9, 7), 90), kind, 5).size == (9, 7)


def test_what_does_not_exist_is_refused(photo):
    with pytest.raises(ValueError, match="gaussian_blur"):
        distort(photo, "rust", 1)
    with pytest.raises(ValueError, match="1 to 5"):
        distort(photo, "jpeg", 6)
