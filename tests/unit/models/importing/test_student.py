"""A published student becomes a model, whatever file it comes in."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from support.published import STUDENT, as_trained_in_parallel, student_state_dict
from torchvision.models import efficientnet_b0

from dpiqa.errors import InvalidRequest
from dpiqa.models.cards import find_card, sha256_of, verify
from dpiqa.models.importing.importer import import_checkpoint
from dpiqa.models.loading import load_scorer
from dpiqa.types import ModelKind

pytestmark = pytest.mark.heavy

ABOUT = {"licence": "CC BY-NC-SA 4.0", "paper": "DP-IQA", "trained_on": "KonIQ-10k"}


@pytest.fixture(scope="module")
def published():
    return student_state_dict()


@pytest.fixture
def models_dir(tmp_path):
    return tmp_path / "models"


def importing(file, models_dir, name="koniq", **options):
    sizes = STUDENT.model_dump(mode="json")
    return import_checkpoint(
        file, kind=ModelKind.STUDENT, name=name, models_dir=models_dir, architecture=sizes, **ABOUT | options
    )


def write_pth(published, path):
    torch.save(published, path)


def write_legacy(published, path):
    torch.save(published, path, _use_new_zipfile_serialization=False)


def write_tar(published, path):
    figures = {"best_srcc": np.float64(0.9), "epoch": np.int64(3)}
    torch.save(as_trained_in_parallel(published) | figures, path)


FILES = {"a.pth": write_pth, "old.pth": write_legacy, "best_model.pth.tar": write_tar, "a.safetensors": save_file}


def expected_scores(published, pixels):
    """torchvision's own network below, the head of the paper above."""
    backbone = efficientnet_b0(weights=None).features.eval()
    prefix = "base_model.features."
    backbone.load_state_dict({n.removeprefix(prefix): t for n, t in published.items() if n.startswith(prefix)})
    with torch.inference_mode():
        maps = backbone(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255)
        weight, bias = published["conv_transpose.weight"], published["conv_transpose.bias"]
        maps = F.relu(F.conv_transpose2d(maps, weight, bias, stride=2, padding=1, output_padding=1))
        hidden = F.interpolate(maps, size=(STUDENT.map_size,) * 2, mode="nearest").flatten(1)
        for layer in ("fc1", "fc2"):
            hidden = F.relu(F.linear(hidden, published[f"{layer}.weight"], published[f"{layer}.bias"]))
        return F.linear(hidden, published["fc3.weight"], published["fc3.bias"])[:, 0].numpy()


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_gives_the_authors_scores(tmp_path, models_dir, published, name):
    FILES[name](published, tmp_path / name)
    importing(tmp_path / name, models_dir)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    scores = load_scorer("koniq", models_dir=models_dir, device="cpu").score(pixels)
    np.testing.assert_allclose(scores, expected_scores(published, pixels), rtol=1e-4, atol=1e-5)


def test_the_same_weights_are_the_same_scorer_wherever_they_come_from(tmp_path, published):
    cards = []
    for index, (name, write) in enumerate(FILES.items()):
        write(published, tmp_path / name)
        cards.append(importing(tmp_path / name, tmp_path / f"models{index}"))
    assert len({card.scorer_id for card in cards}) == 1


def test_the_card_says_what_is_known(tmp_path, models_dir, published):
    file = tmp_path / "student.pth"
    write_pth(published, file)
    remarks = []
    importing(file, models_dir, note=remarks.append)
    card = find_card("koniq", models_dir)
    verify(card, models_dir)
    assert (card.licence, card.paper, card.trained_on) == tuple(ABOUT.values())
    assert card.architecture == STUDENT.model_dump(mode="json")
    assert card.preprocessing.version == "squash-bilinear-64x64-v2"
    assert "higher is better" in card.score_scale
    assert sha256_of(file) in card.notes
    assert any("weights_only" in line for line in remarks)
    assert any("a test image scored" in line for line in remarks)


def test_what_training_counted_may_be_absent(tmp_path, models_dir, published):
    uncounted = {name: tensor for name, tensor in published.items() if not name.endswith("num_batches_tracked")}
    save_file(uncounted, tmp_path / "a.safetensors")
    importing(tmp_path / "a.safetensors", models_dir)
    verify(find_card("koniq", models_dir), models_dir)


def test_a_model_of_ours_can_be_imported_under_another_name(tmp_path, models_dir, published):
    write_pth(published, tmp_path / "a.pth")
    first = importing(tmp_path / "a.pth", models_dir)
    architecture = json.loads((models_dir / "koniq.json").read_text())["architecture"]
    again = import_checkpoint(
        models_dir / "koniq.safetensors",
        kind=ModelKind.STUDENT,
        name="again",
        models_dir=models_dir,
        architecture=architecture,
        licence="mine",
    )
    assert again.sha256 == first.sha256


def test_double_precision_becomes_single(tmp_path, models_dir, published):
    doubled = {name: t.double() if t.is_floating_point() else t for name, t in published.items()}
    write_pth(doubled, tmp_path / "a.pth")
    importing(tmp_path / "a.pth", models_dir)
    dtypes = {tensor.dtype for tensor in load_file(models_dir / "koniq.safetensors").values()}
    assert dtypes == {torch.float32, torch.int64}


@pytest.mark.parametrize("name", ["", "A", "../up", ".hidden", "a b", "x" * 65])
def test_a_name_that_is_no_file_name_is_refused(tmp_path, models_dir, published, name):
    write_pth(published, tmp_path / "a.pth")
    with pytest.raises(InvalidRequest, match="is not a valid model name"):
        importing(tmp_path / "a.pth", models_dir, name=name)


@pytest.mark.parametrize("name", ["koniq", "bundled-student", "brightness"])
def test_a_name_is_given_once(tmp_path, models_dir, published, name):
    write_pth(published, tmp_path / "a.pth")
    importing(tmp_path / "a.pth", models_dir)
    before = sorted((path.name, path.stat().st_mtime_ns) for path in models_dir.iterdir())
    with pytest.raises(InvalidRequest, match=f"there is already a model called {name}"):
        importing(tmp_path / "a.pth", models_dir, name=name)
    assert before == sorted((path.name, path.stat().st_mtime_ns) for path in models_dir.iterdir())
