"""Saliency of every kind of model: `dpiqa explain` needs only scores."""

import numpy as np
import pytest
from support.onnx_files import green_mean
from support.promptiqa import write_tiny_promptiqa
from support.tiny_networks import write_tiny_models

from dpiqa.evaluation.saliency import saliency
from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.models.base import ModelCard
from dpiqa.models.cards import sha256_of
from dpiqa.models.choice import ModelChoice
from dpiqa.models.loading import load_scorer
from dpiqa.requirement import PreparedRequirement
from dpiqa.types import ModelKind


def picture(scorer):
    """A picture whose lower right is dark, of the size that the scorer takes."""
    size = scorer.card.preprocessing
    pixels = np.random.default_rng(0).integers(150, 256, (size.height, size.width, 3), dtype=np.uint8)
    pixels[size.height // 2 :, size.width // 2 :] //= 8
    return pixels


def check(scorer):
    pixels = picture(scorer)
    result = saliency(scorer, pixels, batch=5)
    assert result.regions.shape == (8, 8)
    assert np.isfinite(result.regions).all()
    assert result.score == pytest.approx(float(scorer.score(pixels[None])[0]), abs=1e-5)
    return result


@pytest.mark.parametrize("name", ["small-student", "small-teacher"])
def test_student_and_teacher(tmp_path, name):
    check(load_scorer(name, models_dir=write_tiny_models(tmp_path / "models"), device="cpu"))


def test_onnx(tmp_path):
    (tmp_path / "older.onnx").write_bytes(green_mean(16, batch=1, with_map=True))
    card = ModelCard(
        name="older",
        kind=ModelKind.ONNX,
        weights="older.onnx",
        sha256=sha256_of(tmp_path / "older.onnx"),
        preprocessing=Preprocessing(width=16, height=16),
        licence="test",
    )
    (tmp_path / "older.json").write_text(card.model_dump_json())
    result = check(load_scorer("older", models_dir=tmp_path, device="cpu", threads=1))
    assert result.quadrants.argmin() == 3


def test_promptiqa_with_a_requirement(tmp_path):
    card = write_tiny_promptiqa(tmp_path, "tiny")
    requirement = PreparedRequirement(
        name="portraits",
        version=1,
        base_scorer_id=card.scorer_id,
        features=np.random.default_rng(0).normal(size=(5, 16)).astype(np.float32),
        direction="higher is better",
    )
    choice = ModelChoice(model="tiny", requirement="portraits@1")
    check(load_scorer(choice, models_dir=tmp_path, device="cpu", requirement=requirement))
