"""Scoring through real decode processes."""

import numpy as np
import pytest
from support.photos import jpeg, png

from dpiqa.datasets.spec import LabelledImage
from dpiqa.evaluation.measurement import evaluate
from dpiqa.evaluation.scored_images import score_labelled
from dpiqa.imaging.decode import Limits, decode_and_prepare
from dpiqa.models.brightness import BRIGHTNESS, BrightnessScorer
from dpiqa.models.loading import load_scorer
from dpiqa.types import Reason


@pytest.fixture
def images(tmp_path):
    """Seven good files, one of them turned by its size, and three that cannot be scored."""
    files = {f"{number}.png": png(number / 10) for number in range(6)}
    files |= {"wide.jpg": jpeg(0.7, (300, 90)), "broken.jpg": jpeg(0.5)[:300], "empty.png": b""}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    names = [*files, "missing.png"]
    return [LabelledImage(path=tmp_path / name, mos=0.1, split="test") for name in names]


def test_every_image_gets_its_own_answer(images):
    scorer = load_scorer("brightness")
    done = []
    scored = score_labelled(scorer, images, batch=3, advance=done.append)
    assert sum(done) == len(images)
    assert [image.path for image in scored.images] == [image.path for image in images]
    expected = [
        scorer.score(decode_and_prepare(image.path.read_bytes(), BRIGHTNESS.preprocessing, Limits())[None])[0]
        for image in images[:7]
    ]
    assert scored.scores[:7] == pytest.approx(expected, abs=1e-12)
    assert np.isnan(scored.scores[7:]).all()
    assert {path.name: failure.reason for path, failure in scored.failures.items()} == {
        "broken.jpg": Reason.TRUNCATED,
        "empty.png": Reason.EMPTY,
        "missing.png": Reason.OBJECT_DELETED,
    }


def test_limits_hold(images):
    scored = score_labelled(load_scorer("brightness"), images[:7], limits=Limits(max_pixels=64 * 64))
    assert {path.name: failure.reason for path, failure in scored.failures.items()} == {
        "wide.jpg": Reason.TOO_MANY_PIXELS
    }


def test_one_image_the_model_cannot_score_costs_only_itself(images):
    class Shy(BrightnessScorer):
        def score(self, pixels):
            scores = super().score(pixels)
            return np.where(scores > 0.65, np.nan, scores)

    scored = evaluate(Shy(BRIGHTNESS), images[:7], draws=10)
    assert {path.name: failure.reason for path, failure in scored.failures.items()} == {
        "wide.jpg": Reason.NON_FINITE_SCORE
    }
    assert scored.overall.n == 6


def test_answers_for_some_of_the_images(images):
    scored = score_labelled(load_scorer("brightness"), images)
    some = scored.only(images[5:8])
    assert [image.path.name for image in some.images] == ["5.png", "wide.jpg", "broken.jpg"]
    assert some.scores[:2] == pytest.approx(scored.scores[5:7])
    assert len(some.failures) == 1
