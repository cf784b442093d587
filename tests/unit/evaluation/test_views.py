"""The spread of scores over views of a picture."""

import numpy as np
import pytest

from dpiqa.evaluation.views import VIEWS, ViewSpread
from dpiqa.models.brightness import BRIGHTNESS, BrightnessScorer


def test_an_even_picture_has_no_spread_and_one_with_a_dark_corner_has():
    scorer = ViewSpread(BrightnessScorer(BRIGHTNESS))
    pixels = np.full((2, 64, 64, 3), 200, np.uint8)
    pixels[1, :32, :32] = 0
    spread = scorer.score(pixels)
    assert spread.dtype == np.float64
    assert spread[0] == pytest.approx(0)
    assert 0.01 < spread[1] < 0.2
    assert scorer.card is BRIGHTNESS


def test_views_keep_the_size_and_show_what_their_names_say():
    rows, columns = np.indices((64, 48))
    image = np.stack([rows, columns, rows], axis=-1).astype(np.uint8)
    views = {name: view(image) for name, view in VIEWS.items()}
    assert {view.shape for view in views.values()} == {(64, 48, 3)}
    np.testing.assert_array_equal(views["mirrored"][:, ::-1], image)
    assert views["upper left"][0, 0].tolist() == [0, 0, 0]
    assert views["lower right"][-1, -1].tolist() == [63, 47, 63]
    assert views["upper right"][0, -1].tolist() == [0, 47, 0]
    assert views["lower left"][-1, 0].tolist() == [63, 0, 63]
