"""The older release's ONNX file: imported, tried and scored, without torch."""

import subprocess
import sys

import numpy as np
import pytest
from support.onnx_files import green_mean

from dpiqa.errors import CheckpointError
from dpiqa.models.cards import find_card, verify
from dpiqa.models.importing.importer import import_checkpoint
from dpiqa.models.loading import load_scorer
from dpiqa.types import ModelKind


def importing(file, models_dir, **options):
    return import_checkpoint(file, kind=ModelKind.ONNX, name="older", models_dir=models_dir, licence="x", **options)


@pytest.mark.parametrize("with_map", [False, True])
def test_it_is_imported_and_scores(tmp_path, with_map):
    (tmp_path / "student.onnx").write_bytes(green_mean(512, with_map=with_map))
    importing(tmp_path / "student.onnx", tmp_path / "models")
    card = find_card("older", tmp_path / "models")
    verify(card, tmp_path / "models")
    assert card.preprocessing.version == "squash-bilinear-512x512-v2"
    pixels = np.full((1, 512, 512, 3), (0, 51, 0), np.uint8)
    scores = load_scorer("older", models_dir=tmp_path / "models", device="cpu").score(pixels)
    np.testing.assert_allclose(scores, 0.2, atol=1e-3)  # one single-precision mean over 262,144 pixels


@pytest.mark.parametrize(
    ("content", "options", "complaint"),
    [
        (b"hello", {}, "not an ONNX model"),
        (green_mean(64), {}, r"expected .*512, 512\), found .* 64, 64"),
        (green_mean(512), {"architecture": {"input_size": 64}}, r"expected .*64, 64\), found .* 512, 512"),
    ],
)
def test_another_file_is_refused_and_nothing_is_left(tmp_path, content, options, complaint):
    (tmp_path / "student.onnx").write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"student\.onnx.* {complaint}"):
        importing(tmp_path / "student.onnx", tmp_path / "models", **options)
    assert [path.name for path in (tmp_path / "models").iterdir()] == [".lock"]


def test_it_needs_no_torch(tmp_path):
    (tmp_path / "student.onnx").write_bytes(green_mean(512))
    code = """
import pathlib, sys
from dpiqa.types import ModelKind
from dpiqa.models.importing.importer import import_checkpoint
folder = pathlib.Path(sys.argv[1])
import_checkpoint(folder / "student.onnx", kind=ModelKind.ONNX, name="older", models_dir=folder / "models", licence="x")
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=120)
