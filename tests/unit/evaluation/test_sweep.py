"""Distortions whose effect on brightness is known, so that the verdicts are, too."""

import json

import numpy as np
import pytest
from PIL import Image

from dpiqa.errors import InvalidRequest
from dpiqa.evaluation.folder import write_sweep
from dpiqa.evaluation.sweep import sweep
from dpiqa.imaging.distortions import KINDS
from dpiqa.models.loading import load_scorer
from dpiqa.types import Reason


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    for number, level in enumerate((70, 90)):
        pixels = rng.normal(level, 12, (48, 64, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    return sorted(tmp_path.glob("*.png"))


@pytest.fixture
def brightness():
    return load_scorer("brightness")


def test_a_models_known_answers(brightness, pictures):
    found = sweep(brightness, pictures, kinds=["underexposure", "overexposure", "gaussian_blur"])
    assert found.scores.shape == (2, 3, 6)
    assert found.means["underexposure"] == pytest.approx(
        80 / 255 * np.array([1, 0.75, 0.55, 0.38, 0.24, 0.13]), abs=0.005
    )
    verdicts = {kind: str(course) for kind, course in found.courses.items()}
    assert verdicts["underexposure"] == "falls"
    assert verdicts["overexposure"] == "rises at 1, 2, 3, 4, 5"  # to this model, brighter is better
    assert not found.courses["gaussian_blur"].falls  # a blur keeps the mean


def test_the_same_pictures_give_the_same_scores(brightness, pictures):
    kinds = ["gaussian_noise", "colour_cast"]
    first, again = (sweep(brightness, pictures, kinds=kinds).scores for _ in range(2))
    assert (first == again).all()


def test_all_kinds_unless_some_are_named(brightness, pictures):
    assert sweep(brightness, pictures[:1]).kinds == tuple(KINDS)


def test_what_cannot_be_scored_is_counted(brightness, pictures, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    seen = []
    found = sweep(brightness, [tmp_path / "broken.jpg", *pictures], kinds=["jpeg"], advance=seen.append)
    assert [failure.reason for failure in found.failures.values()] == [Reason.NOT_AN_IMAGE]
    assert len(found.scores) == 2
    assert sum(seen) == 3
    with pytest.raises(InvalidRequest, match="none of 1"):
        sweep(brightness, [tmp_path / "broken.jpg"], kinds=["jpeg"])


def test_an_unknown_kind_is_named(brightness, pictures):
    with pytest.raises(InvalidRequest, match="rust") as raised:
        sweep(brightness, pictures, kinds=["rust"])
    assert "gaussian_blur" in raised.value.hint


def test_the_report_says_where_it_is_not_monotone(brightness, pictures, tmp_path):
    found = sweep(brightness, pictures, kinds=["underexposure", "overexposure"])
    written = write_sweep(tmp_path / "report", brightness.card, found)
    assert sorted(path.name for path in written) == ["distortions.json", "distortions.md", "distortions.png"]
    document = json.loads((tmp_path / "report/distortions.json").read_text())
    assert document["falling"] == 1
    assert document["kinds"]["overexposure"]["rises_at"] == [1, 2, 3, 4, 5]
    page = (tmp_path / "report/distortions.md").read_text()
    assert "falls with strength for 1 of 2 kinds" in page
    assert "| overexposure |" in page
    with Image.open(tmp_path / "report/distortions.png") as plot:
        assert min(plot.size) > 200
    assert not list((tmp_path / "report").glob(".*"))
