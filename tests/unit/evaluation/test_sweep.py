"""Distortions whose effect on brightness is known, so that the verdicts are, too."""

import json

import numpy as np
import pytest
from PIL import Image

from dpiqa.errors import InvalidRequest, NotFound
from dpiqa.evaluation.report_files import write_sweep
from dpiqa.evaluation.sweep import TOLERANCE, sweep, trend
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
    result = sweep(brightness, pictures, kinds=["underexposure", "overexposure", "gaussian_blur"])
    assert result.scores.shape == (2, 3, 6)
    assert result.means["underexposure"] == pytest.approx(
        80 / 255 * np.array([1, 0.75, 0.55, 0.38, 0.24, 0.13]), abs=0.005
    )
    verdicts = {kind: str(trend) for kind, trend in result.trends.items()}
    assert verdicts["underexposure"] == "falls"
    assert verdicts["overexposure"] == "rises at 1, 2, 3, 4, 5"  # to this model, brighter is better
    assert not result.trends["gaussian_blur"].falls  # a blur keeps the mean


def test_the_same_pictures_give_the_same_scores(brightness, pictures):
    kinds = ["gaussian_noise", "colour_cast"]
    first, again = (sweep(brightness, pictures, kinds=kinds).scores for _ in range(2))
    assert (first == again).all()


def test_all_kinds_unless_some_are_named(brightness, pictures):
    assert sweep(brightness, pictures[:1]).kinds == tuple(KINDS)


def test_what_cannot_be_scored_is_counted(brightness, pictures, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    seen = []
    result = sweep(brightness, [tmp_path / "broken.jpg", *pictures], kinds=["jpeg"], advance=seen.append)
    assert [failure.reason for failure in result.failures.values()] == [Reason.NOT_AN_IMAGE]
    assert len(result.scores) == 2
    assert sum(seen) == 3
    with pytest.raises(InvalidRequest, match="none of 1"):
        sweep(brightness, [tmp_path / "broken.jpg"], kinds=["jpeg"])


def test_an_unknown_kind_is_named(brightness, pictures):
    with pytest.raises(NotFound, match="rust") as raised:
        sweep(brightness, pictures, kinds=["rust"])
    assert "gaussian_blur" in raised.value.hint


def test_the_report_says_where_it_is_not_monotone(brightness, pictures, tmp_path):
    result = sweep(brightness, pictures, kinds=["underexposure", "overexposure"])
    written = write_sweep(tmp_path / "report", brightness.card, result)
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


@pytest.mark.parametrize(
    ("scores", "rises", "falls", "verdict"),
    [
        ([0.6, 0.5, 0.4, 0.3], (), True, "falls"),
        ([0.6, 0.5, 0.5, 0.5], (), True, "falls"),  # saturated is not a rise
        ([0.6, 0.6, 0.6, 0.6], (), False, "does not move"),
        ([0.6, 0.5995, 0.6, 0.5999], (), False, "does not move"),  # within the tolerance
        ([0.6, 0.7, 0.4, 0.3], (1,), False, "rises at 1"),
        ([0.6, 0.4, 0.5, 0.3], (2,), False, "rises at 2"),
        ([0.6, 0.4, 0.5, 0.45], (2, 3), False, "rises at 2, 3"),  # 3 is still above 1
        ([0.6, 0.4, 0.4008, 0.4016], (3,), False, "rises at 3"),  # in steps below the tolerance
        ([0.3, 0.4], (1,), False, "rises at 1"),
    ],
)
def test_where_scores_rise(scores, rises, falls, verdict):
    result = trend(scores)
    assert (result.rises, result.falls, str(result)) == (rises, falls, verdict)
    assert result.drop == pytest.approx(scores[0] - scores[-1])


def test_the_tolerance_is_the_callers():
    assert trend([0.6, 0.61, 0.5]).rises == (1,)
    assert trend([0.6, 0.61, 0.5], tolerance=0.02).falls
    assert TOLERANCE == 0.001  # what README and docs/evaluation.md promise


def test_one_score_has_no_trend():
    with pytest.raises(ValueError, match="at least one more"):
        trend([0.5])
