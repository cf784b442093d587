"""Maps of models whose answer is known, and of a bundled student on photographs with one distorted quadrant."""

import numpy as np
import pytest
from PIL import Image

from dpiqa.errors import ImageRejected
from dpiqa.evaluation.plots import enlarge, saliency_overlay, write_png
from dpiqa.evaluation.saliency import Saliency, saliency
from dpiqa.imaging.distortions import distort
from dpiqa.imaging.preprocessing import prepare
from dpiqa.local import demo_photos
from dpiqa.models.brightness import BRIGHTNESS, BrightnessScorer
from dpiqa.models.loading import load_scorer

pytestmark = pytest.mark.heavy

QUADRANTS = [(0, 0), (0, 1), (1, 0), (1, 1)]


def distort_quadrant(image, kind, down, right):
    """Return the picture with one quadrant at the strongest distortion."""
    width, height = image.size
    left, top = right * width // 2, down * height // 2
    box = (left, top, left + width // 2, top + height // 2)
    distorted = image.copy()
    distorted.paste(distort(image, kind, 5).crop(box), box)
    return distorted


def photograph(name):
    files = {key.rpartition("/")[2]: path for key, path in demo_photos.plan(None).photographs}
    with Image.open(files[name]) as file:
        return file.convert("RGB")


@pytest.mark.parametrize(("down", "right"), QUADRANTS)
def test_a_dark_quadrant_pulls_the_brightness_down(down, right):
    pixels = np.full((64, 64, 3), 200, np.uint8)
    pixels[down * 32 : down * 32 + 32, right * 32 : right * 32 + 32] = 40
    result = saliency(BrightnessScorer(BRIGHTNESS), pixels)
    assert result.score == pytest.approx(160 / 255)
    corner = (-down, -right)  # the cell furthest out is seen by one region alone: the quadrant itself
    assert result.regions[corner] == pytest.approx(40 / 255)
    assert result.quadrants.argmin() == 2 * down + right
    assert result.quadrants[down, right] < 0 < result.quadrants[1 - down, 1 - right]


@pytest.mark.parametrize(("down", "right"), QUADRANTS)
def test_a_map_shows_the_picture_without_the_mirror_images_around_it(down, right):
    fill = BRIGHTNESS.preprocessing.model_copy(update={"enlarge_to": 16})
    picture = np.full((20, 40, 3), 200, np.uint8)
    picture[down * 10 : down * 10 + 10, right * 20 : right * 20 + 20] = 40
    pixels = prepare(Image.fromarray(picture), fill)
    assert pixels.shape == (64, 64, 3)
    result = saliency(BrightnessScorer(BRIGHTNESS), pixels, size=fill.picture_size(40, 20))
    assert result.regions[-down, -right] == pytest.approx(40 / 255)
    assert result.quadrants.argmin() == 2 * down + right


def test_an_even_picture_has_no_effects():
    result = saliency(BrightnessScorer(BRIGHTNESS), np.full((64, 64, 3), 90, np.uint8))
    assert np.abs(result.effect).max() < 1e-12


def test_any_batch_gives_the_same_map():
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    maps = [saliency(BrightnessScorer(BRIGHTNESS), pixels, batch=batch).regions for batch in (1, 7, 64)]
    assert (maps[0] == maps[1]).all()
    assert (maps[0] == maps[2]).all()


def test_sides_that_eight_does_not_divide():
    class Odd(BrightnessScorer):
        card = BRIGHTNESS.model_copy(
            update={"preprocessing": BRIGHTNESS.preprocessing.model_copy(update={"width": 61})}
        )

        def __init__(self):
            pass

    assert saliency(Odd(), np.full((64, 61, 3), 90, np.uint8)).regions.shape == (8, 8)


def test_a_model_that_answers_nan_is_an_error_not_a_map():
    class Broken(BrightnessScorer):
        def score(self, pixels):
            return np.full(len(pixels), np.nan)

    with pytest.raises(ImageRejected):
        saliency(Broken(BRIGHTNESS), np.zeros((64, 64, 3), np.uint8))


@pytest.mark.parametrize(
    ("name", "kind", "quadrant"), [("astronaut", "gaussian_noise", 0), ("china", "low_resolution", 3)]
)
def test_a_bundled_students_map_points_at_the_distorted_quadrant(name, kind, quadrant):
    pytest.importorskip("torch")
    scorer = load_scorer("bundled-tiny", device="cpu")
    image = photograph(name)
    distorted = distort_quadrant(image, kind, *QUADRANTS[quadrant])
    before, after = (
        saliency(scorer, prepare(picture, scorer.card.preprocessing)).quadrants for picture in (image, distorted)
    )
    assert (after - before).argmin() == quadrant  # what is dark or plain by itself does not count
    assert (after - before).flat[quadrant] < -0.02


def test_the_overlay_keeps_the_pictures_shape(tmp_path):
    effect = np.zeros((8, 8))
    effect[:4, :4] = -0.3
    for size in ((320, 160), (120, 400)):
        figure = saliency_overlay(Image.new("RGB", size), Saliency(0.5, 0.5 + effect), title="a")
        path = write_png(figure, tmp_path / "map.png")
        overlay = figure.axes[0].get_images()[1].get_array()
        assert overlay.shape[::-1] == size
        with Image.open(path) as plot:
            assert (plot.width > plot.height) is (size[0] > size[1])
    assert [path.name for path in tmp_path.iterdir()] == ["map.png"]


def test_enlarging_keeps_places():
    cells = np.zeros((8, 8))
    cells[0, 7] = 1
    large = enlarge(cells, 160, 80)
    assert large.shape == (80, 160)
    assert np.unravel_index(large.argmax(), large.shape)[0] < 10
    assert np.unravel_index(large.argmax(), large.shape)[1] > 140
