"""Precision and memory format: each its own scorer, each within the tolerance that docs/models.md states."""

import numpy as np
import pytest
import torch

from dpiqa.errors import ConfigurationError
from dpiqa.models import torch_scorer
from dpiqa.models.cards import find_card
from dpiqa.models.choice import ModelChoice
from dpiqa.models.loading import load_scorer
from dpiqa.types import Precision

pytestmark = pytest.mark.heavy

MODELS = ["bundled-tiny", "bundled-teacher"]
#: Largest difference of one image's score between batches, and between a precision and float32.
IN_BATCHES = {Precision.FLOAT32: 1e-3, Precision.BFLOAT16: 0.01, Precision.FLOAT16: 2e-3}
FROM_FLOAT32 = {Precision.FLOAT32: 1e-3, Precision.BFLOAT16: 0.03, Precision.FLOAT16: 5e-3}


@pytest.fixture(scope="module")
def pictures():
    """Three pictures of 512x512: a ramp, a coarse pattern, noise."""
    ramp = np.broadcast_to(np.linspace(0, 255, 512)[None, :, None], (512, 512, 3))
    pattern = np.indices((512, 512)).sum(axis=0)[..., None] // 32 % 2 * np.array([200, 120, 40])
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3))
    return np.stack([ramp, pattern, noise]).astype(np.uint8)


@pytest.fixture(scope="module", params=MODELS)
def exact(request, pictures):
    """Give a model's card and its float32 scores."""
    scorer = load_scorer(request.param, device="cpu", threads=1)
    return scorer.card, scorer.score(pictures)


@pytest.mark.parametrize("precision", [Precision.BFLOAT16, Precision.FLOAT16])
def test_less_precision_moves_scores_within_its_tolerance(exact, pictures, precision):
    card, scores = exact
    scorer = load_scorer(ModelChoice(model=card.name, precision=precision), device="cpu", threads=1)
    rough = scorer.score(pictures[:1])
    np.testing.assert_allclose(rough, scores[:1], atol=FROM_FLOAT32[precision], rtol=0)
    assert rough.dtype == np.float64


def test_the_batch_does_not_move_scores_of_the_bundled_models(exact, pictures):
    card, scores = exact
    scorer = load_scorer(card.name, device="cpu", threads=1)
    np.testing.assert_allclose(scorer.score(pictures[1:2]), scores[1:2], atol=IN_BATCHES[Precision.FLOAT32], rtol=0)


def test_nor_does_it_move_those_of_the_student_that_most_people_use(pictures):
    scorer = load_scorer("bundled-student", device="cpu", threads=1)
    together = scorer.score(pictures[:2])
    np.testing.assert_allclose(scorer.score(pictures[1:2]), together[1:], atol=IN_BATCHES[Precision.FLOAT32], rtol=0)


@pytest.mark.parametrize("precision", list(Precision))
@pytest.mark.parametrize("name", ["small-student", "small-teacher"])
def test_the_batch_moves_scores_within_the_precisions_tolerance(models_dir, name, precision):
    pixels = np.random.default_rng(0).integers(0, 256, (7, 64, 64, 3), dtype=np.uint8)
    scorer = load_scorer(ModelChoice(model=name, precision=precision), models_dir=models_dir, device="cpu", threads=1)
    alone = np.concatenate([scorer.score(pixels[i : i + 1]) for i in range(len(pixels))])
    np.testing.assert_allclose(scorer.score(pixels), alone, atol=IN_BATCHES[precision], rtol=0)


def test_the_memory_format_changes_hardly_anything_but_the_scorer(exact, pictures):
    card, scores = exact
    first = load_scorer(ModelChoice(model=card.name, channels_last=False), device="cpu", threads=1)
    np.testing.assert_allclose(first.score(pictures), scores, atol=1e-3, rtol=0)
    assert first.card.scorer_id == card.scorer_id + "+nchw"


def test_every_option_is_another_scorer_and_the_cards_own_are_not():
    def scorer_id(**options):
        choice = ModelChoice(model="bundled-tiny", **options)
        return load_scorer(choice, device="cpu", threads=1).card.scorer_id

    own = find_card("bundled-tiny").scorer_id
    assert scorer_id(precision="float32", channels_last=True) == own
    others = [scorer_id(precision="bfloat16"), scorer_id(precision="float16"), scorer_id(channels_last=False)]
    assert len({own, *others}) == 4
    assert all(other.startswith(own.removesuffix("float32")) for other in others)


@pytest.mark.parametrize(
    ("choice", "complaint"),
    [
        ({"model": "brightness", "precision": "bfloat16"}, "brightness cannot run in bfloat16"),
        ({"model": "brightness", "channels_last": False}, "brightness has no memory format to choose"),
        ({"model": "bundled-tiny", "requirement": "portraits"}, "bundled-tiny cannot score by a requirement"),
    ],
)
def test_an_option_that_a_model_does_not_have_is_refused(choice, complaint):
    with pytest.raises(ConfigurationError, match=complaint) as caught:
        load_scorer(ModelChoice(**choice))
    assert caught.value.hint


def test_a_gpu_that_only_emulates_bfloat16_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "an old GPU")
    card = find_card("bundled-tiny").model_copy(update={"precision": Precision.BFLOAT16})
    with pytest.raises(ConfigurationError, match="an old GPU does not support bfloat16"):
        torch_scorer.require_precision(torch.device("cuda"), card)
    torch_scorer.require_precision(torch.device("cpu"), card)
    torch_scorer.require_precision(torch.device("cuda"), find_card("bundled-tiny"))


def test_a_device_without_an_operation_in_this_precision_is_refused(models_dir, monkeypatch):
    def missing(network, images, view_size):
        raise RuntimeError("\"slow_conv2d_cpu\" not implemented for 'Half'\nmore")

    monkeypatch.setattr(torch_scorer, "score_in_views", missing)
    choice = ModelChoice(model="small-student", precision="float16")
    with pytest.raises(
        ConfigurationError, match=r"cpu cannot run small-student in float16: .* not implemented"
    ) as caught:
        load_scorer(choice, models_dir=models_dir, device="cpu")
    assert "\n" not in str(caught.value)
