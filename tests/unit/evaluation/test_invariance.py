"""Edits whose effect on brightness is known."""

import numpy as np
import pytest
from PIL import Image

from dpiqa.errors import InvalidRequest
from dpiqa.evaluation.invariance import EDITS, measure_invariance
from dpiqa.models.loading import load_scorer
from dpiqa.types import Reason


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    for number, level in enumerate((102, 153)):
        pixels = rng.normal(level, 12, (100, 200, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    return sorted(tmp_path.glob("*.png"))


def test_a_border_darkens_and_the_other_edits_do_not_matter(pictures):
    result = measure_invariance(load_scorer("brightness"), pictures)
    figures = result.figures()
    assert list(figures) == list(EDITS)
    np.testing.assert_allclose(result.originals, [0.4, 0.6], atol=0.005)
    assert figures["lossless"] == {"mean_size": 0, "size_95": 0, "mean_change": 0}
    for name in ("jpeg_95", "twice_the_size", "three_quarters_the_size", "cropped", "mirrored"):
        assert figures[name]["mean_size"] < 0.003
    visible = 100 * 200 / (102 * 202)  # a border of one pixel
    assert figures["border"]["mean_change"] == pytest.approx(0.5 * (visible - 1), abs=0.003)
    assert figures["border"]["size_95"] == pytest.approx(0.6 * (1 - visible), abs=0.003)


def test_what_cannot_be_scored_is_counted(pictures, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    result = measure_invariance(load_scorer("brightness"), [tmp_path / "broken.jpg", *pictures])
    assert [failure.reason for failure in result.failures.values()] == [Reason.NOT_AN_IMAGE]
    assert result.as_dict()["pictures"] == 2
    with pytest.raises(InvalidRequest, match="none of 1"):
        measure_invariance(load_scorer("brightness"), [tmp_path / "broken.jpg"])
