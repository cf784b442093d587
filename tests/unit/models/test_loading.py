import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dpiqa.errors import CheckpointError, ConfigurationError, DeviceMemoryError
from dpiqa.models import torch_scorer
from dpiqa.models.cards import find_card, sha256_of
from dpiqa.models.choice import ModelChoice
from dpiqa.models.loading import load_scorer
from dpiqa.models.scoring_network import ScoringNetwork
from dpiqa.types import Precision


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)


def test_brightness_needs_no_torch():
    code = """
import sys, numpy
from dpiqa.models.choice import ModelChoice
from dpiqa.models.loading import load_scorer
scores = load_scorer("brightness").score(numpy.full((2, 64, 64, 3), 51, numpy.uint8))
assert scores.tolist() == [0.2, 0.2] and scores.dtype == numpy.float64
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("name", ["small-student", "small-teacher"])
def test_a_score_depends_neither_on_the_batch_nor_on_the_run(models_dir, pixels, name):
    scorer = load_scorer(name, models_dir=models_dir, device="cpu")
    together = scorer.score(pixels)
    alone = np.concatenate([scorer.score(pixels[i : i + 1]) for i in range(len(pixels))])
    assert together.dtype == np.float64
    assert together.shape == (5,)
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_array_equal(together, scorer.score(pixels))
    assert np.ptp(together) > 0


def test_a_wrong_shape_is_quoted_beside_the_right_one(models_dir):
    scorer = load_scorer("small-student", models_dir=models_dir, device="cpu")
    with pytest.raises(ValueError, match=r"expected \(B, 64, 64, 3\) uint8, got \(2, 32, 64, 3\) uint8"):
        scorer.score(np.zeros((2, 32, 64, 3), np.uint8))


def test_precision_is_part_of_the_identity(models_dir, pixels):
    exact = load_scorer("small-student", models_dir=models_dir, device="cpu")
    choice = ModelChoice(model="small-student", precision=Precision.BFLOAT16)
    rough = load_scorer(choice, models_dir=models_dir, device="cpu")
    assert exact.card.scorer_id != rough.card.scorer_id
    np.testing.assert_allclose(rough.score(pixels), exact.score(pixels), atol=0.05)


def rewrite(models_dir, change):
    """Change the tensors of the small student and its card's hash with them."""
    card = find_card("small-student", models_dir)
    path = models_dir / card.weights
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    renewed = card.model_copy(update={"sha256": sha256_of(path)})
    (models_dir / "small-student.json").write_text(renewed.model_dump_json())


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda tensors: tensors.pop("fc2.bias"), "tensor fc2.bias is missing"),
        (lambda tensors: tensors.update(extra=torch.zeros(1)), "tensor extra is unexpected"),
        (lambda tensors: tensors.update({"fc3.weight": torch.zeros(1, 7)}), r"fc3.weight has shape \(1, 7\), expected"),
    ],
)
def test_every_tensor_is_accounted_for(models_dir, change, complaint):
    rewrite(models_dir, change)
    with pytest.raises(CheckpointError, match=complaint):
        load_scorer("small-student", models_dir=models_dir, device="cpu")


def test_a_file_that_is_no_safetensors_file_is_named(models_dir):
    card = find_card("small-student", models_dir)
    (models_dir / card.weights).write_bytes(b"pickle?")
    renewed = card.model_copy(update={"sha256": sha256_of(models_dir / card.weights)})
    (models_dir / "small-student.json").write_text(renewed.model_dump_json())
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_scorer("small-student", models_dir=models_dir, device="cpu")


def test_sizes_that_make_no_sense_are_an_error_of_the_card(models_dir):
    card = find_card("small-student", models_dir)
    renewed = card.model_copy(update={"architecture": {"backbone": "no_such_net"}})
    (models_dir / "small-student.json").write_text(renewed.model_dump_json())
    with pytest.raises(CheckpointError, match="small-student: its architecture cannot be built"):
        load_scorer("small-student", models_dir=models_dir, device="cpu")


def test_a_device_that_is_not_there_is_a_configuration_error(models_dir):
    with pytest.raises(ConfigurationError, match="is not a device"):
        load_scorer("small-student", models_dir=models_dir, device="gpu")
    with pytest.raises(ConfigurationError, match="there is no cuda:99 on this machine"):
        load_scorer("small-student", models_dir=models_dir, device="cuda:99")


def test_a_full_device_is_our_error(models_dir, pixels):
    scorer = load_scorer("small-student", models_dir=models_dir, device="cpu")

    class Full(ScoringNetwork):
        def forward(self, images):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    full = torch_scorer.TorchScorer(scorer.card, Full(), torch.device("cpu"))
    with pytest.raises(DeviceMemoryError, match="5 images do not fit on cpu"):
        full.score(pixels)


def test_our_own_student_is_loaded_and_scores_without_what_costs_more_than_torch():
    code = """
import sys, numpy
from dpiqa.models.loading import load_scorer
load_scorer("bundled-tiny", device="cpu").score(numpy.zeros((1, 512, 512, 3), numpy.uint8))
slow = {"torch._dynamo", "torchvision", "timm", "diffusers", "transformers", "scipy", "sympy", "onnxruntime", "cv2"}
assert "torch" in sys.modules and not slow & sys.modules.keys(), slow & sys.modules.keys()
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=60, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
