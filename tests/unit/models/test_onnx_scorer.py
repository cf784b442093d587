import subprocess
import sys

import numpy as np
import onnx
import pytest
from support.onnx_files import green_mean

from dpiqa.errors import CheckpointError, ConfigurationError
from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.models.base import ModelCard
from dpiqa.models.cards import sha256_of
from dpiqa.models.choice import ModelChoice
from dpiqa.models.loading import load_scorer
from dpiqa.types import ModelKind, Precision

SIDE = 16


def write_model(folder, *, batch=1, with_map=False, side=SIDE, content=None):
    """A model called `older` whose score is the mean of the green channel, as the older release's file is shaped."""
    folder.mkdir(exist_ok=True)
    path = folder / "older.onnx"
    path.write_bytes(content or green_mean(side, batch=batch, with_map=with_map))
    card = ModelCard(
        name="older",
        kind=ModelKind.ONNX,
        weights=path.name,
        sha256=sha256_of(path),
        preprocessing=Preprocessing(width=SIDE, height=SIDE),
        licence="test",
    )
    (folder / "older.json").write_text(card.model_dump_json())
    return folder


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.mark.parametrize("batch", [1, "batch"])
@pytest.mark.parametrize("with_map", [False, True])
def test_the_score_is_found_among_the_outputs_for_any_batch(tmp_path, pixels, batch, with_map):
    folder = write_model(tmp_path / "models", batch=batch, with_map=with_map)
    scorer = load_scorer("older", models_dir=folder, device="cpu", threads=1)
    scores = scorer.score(pixels)
    assert scores.shape == (3,)
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores, pixels[..., 1].mean(axis=(1, 2)) / 255, atol=1e-6)


def test_an_onnx_model_needs_no_torch(tmp_path):
    folder = write_model(tmp_path / "models")
    code = """
import pathlib, sys
from dpiqa.models.loading import load_scorer
load_scorer("older", models_dir=pathlib.Path(sys.argv[1]), device="cpu")
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, timeout=60)


def test_another_input_than_the_card_says_is_quoted(tmp_path):
    folder = write_model(tmp_path / "models", side=8)
    with pytest.raises(CheckpointError, match=r"expected .* 16, 16\), found image tensor\(float\) \[1, 3, 8, 8\]"):
        load_scorer("older", models_dir=folder, device="cpu")


def test_a_file_that_is_no_onnx_model_is_named(tmp_path):
    folder = write_model(tmp_path / "models", content=b"pickle?")
    with pytest.raises(CheckpointError, match=r"older\.onnx is not an ONNX model"):
        load_scorer("older", models_dir=folder, device="cpu")


def test_a_model_without_a_score_says_so(tmp_path, pixels):
    model = onnx.load_from_string(green_mean(SIDE, with_map=True))
    del model.graph.output[1]
    folder = write_model(tmp_path / "models", content=model.SerializeToString())
    with pytest.raises(CheckpointError, match=r"no output has one value per image: \(1, 3, 16, 16\)"):
        load_scorer("older", models_dir=folder, device="cpu").score(pixels)


def test_a_device_or_precision_that_is_not_there_is_a_configuration_error(tmp_path):
    folder = write_model(tmp_path / "models")
    with pytest.raises(ConfigurationError, match="does not offer the device 'cuda:7'"):
        load_scorer("older", models_dir=folder, device="cuda:7")
    with pytest.raises(ConfigurationError, match="float32 only"):
        load_scorer(ModelChoice(model="older", precision=Precision.BFLOAT16), models_dir=folder, device="cpu")
