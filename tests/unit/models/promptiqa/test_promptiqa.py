import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from support.images import photograph
from support.promptiqa import TINY, tiny_promptiqa, write_tiny_promptiqa

from dpiqa.errors import CheckpointError
from dpiqa.models.promptiqa.config import PromptIQAConfig
from dpiqa.models.promptiqa.network import MultiViewAttention, TokenAttention
from dpiqa.models.promptiqa.scorer import ImageVectors, load_promptiqa, pixel_digests
from dpiqa.requirement import PreparedRequirement
from dpiqa.types import Direction, Precision

SCORES = np.linspace(0, 1, 6)


@pytest.fixture
def card(tmp_path):
    return write_tiny_promptiqa(tmp_path, "tiny")


@pytest.fixture
def load(tmp_path, card):
    """Loads the checkpoint, which has seen no image yet."""
    return lambda: load_promptiqa(card, tmp_path / card.weights, device="cpu", threads=1)


@pytest.fixture
def model(load):
    return load()


@pytest.fixture
def pixels():
    return np.stack([np.asarray(photograph(32, 32, seed=seed)) for seed in range(6)])


def requirement(model, pixels, scores=SCORES, **changes):
    prepared = PreparedRequirement(
        name="portraits",
        version=2,
        base_scorer_id=model.card.scorer_id,
        features=model.features(pixels, scores),
        direction=Direction.LOWER,
    )
    return dataclasses.replace(prepared, **changes)


def test_a_score_depends_neither_on_the_batch_nor_on_the_order_of_the_pairs(load, model, pixels):
    prepared = requirement(model, pixels)
    together, one_by_one = load().scorer(prepared).score(pixels), load().scorer(prepared)
    alone = np.concatenate([one_by_one.score(pixels[i : i + 1]) for i in range(len(pixels))])
    turned = load().scorer(requirement(model, pixels[::-1], SCORES[::-1])).score(pixels)
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(together, turned, atol=1e-5)
    assert ((together > 0) & (together < 1)).all()
    assert np.ptp(together) > 1e-3


def test_the_same_pictures_with_other_scores_are_another_requirement(model, pixels):
    rising = model.scorer(requirement(model, pixels)).score(pixels)
    falling = model.scorer(requirement(model, pixels, SCORES[::-1])).score(pixels)
    assert np.abs(rising - falling).max() > 1e-5


def test_prompt_features_belong_to_their_pair_alone_and_are_made_without_the_scored_image(load, model, pixels):
    features = model.features(pixels, SCORES)
    assert features.shape == (6, TINY.width)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features[2:4], load().features(pixels[2:4], SCORES[2:4]), atol=1e-6)
    prepared, network = requirement(model, pixels), model.network
    network.i_p_fusion = network.mlp = None  # scoring an image fails if it needs them
    assert model.scorer(prepared).score(pixels).shape == (6,)


def test_scoring_gives_what_the_network_gives_for_images_and_pairs_at_once(model, pixels):
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.inference_mode():
        features = model.network.pair_features(model.network.image_vectors(images), torch.from_numpy(SCORES).float())
        expected = model.network(images, features).double().numpy()
    np.testing.assert_allclose(model.scorer(requirement(model, pixels)).score(pixels), expected, atol=1e-5)


def test_an_image_passes_the_network_once_for_all_requirements_that_score_it(load, model, pixels, monkeypatch):
    prepared = [requirement(model, pixels), requirement(model, pixels, SCORES[::-1])]
    expected = [load().scorer(one).score(pixels) for one in prepared]
    fresh, passed = load(), []
    whole = fresh.network.image_vectors
    monkeypatch.setattr(fresh.network, "image_vectors", lambda images: passed.append(len(images)) or whole(images))
    first, second = (fresh.scorer(one) for one in prepared)
    np.testing.assert_allclose(first.score(pixels[:4]), expected[0][:4], atol=1e-5)
    np.testing.assert_allclose(second.score(pixels[[3, 5, 1, 5]]), expected[1][[3, 5, 1, 5]], atol=1e-5)
    assert passed == [4, 1]  # of the second batch only picture 5 is new, and only once
    features = fresh.features(pixels, SCORES)
    assert passed == [4, 1, 1]  # picture 4
    np.testing.assert_allclose(features, prepared[0].features, atol=1e-5)


def test_only_the_latest_vectors_are_kept_and_none_of_a_blank_image(model, pixels, monkeypatch):
    passed = []
    whole = model.network.image_vectors
    monkeypatch.setattr(model.network, "image_vectors", lambda images: passed.append(len(images)) or whole(images))
    vectors = ImageVectors(model.network, kept=2)
    blank = np.zeros_like(pixels[:1])
    for shown in (pixels[:3], pixels[2:3], pixels[:1], pixels[1:3], blank, blank):
        vectors.of(torch.from_numpy(shown).permute(0, 3, 1, 2) / 255, pixel_digests(shown))
    assert passed == [3, 1, 1, 1, 1]  # 0 was dropped for 1 and 2, then 1 for 0; the blank image always passes


def test_the_scorer_says_whose_scale_its_scores_are_on(model, pixels):
    scorer = model.scorer(requirement(model, pixels))
    assert scorer.card.scorer_id == f"{model.card.scorer_id}:portraits@2"
    assert scorer.card.score_scale == "0-1 on the scale of the requirement portraits@2: lower is better"
    assert "requirement" in model.card.score_scale


def test_features_of_other_weights_are_refused(tmp_path, model, pixels):
    other = write_tiny_promptiqa(tmp_path, "other", seed=1)
    with pytest.raises(CheckpointError, match=r"portraits@2 was made with other:.* this model is tiny:"):
        model.scorer(requirement(model, pixels, base_scorer_id=other.scorer_id))
    with pytest.raises(CheckpointError, match=r"shape \(6, 3\), expected \(N, 16\)"):
        model.scorer(requirement(model, pixels, features=np.zeros((6, 3), np.float32)))


def test_features_serve_scorers_of_another_precision(tmp_path, card, model, pixels):
    rough_card = card.model_copy(update={"precision": Precision.BFLOAT16})
    rough_model = load_promptiqa(rough_card, tmp_path / card.weights, device="cpu", threads=1)
    prepared = requirement(model, pixels)
    exact, rough = model.scorer(prepared).score(pixels), rough_model.scorer(prepared).score(pixels)
    np.testing.assert_allclose(rough, exact, atol=0.05)
    assert not np.array_equal(rough, exact)


@pytest.mark.parametrize("scores", [np.array([0.5]), np.full(6, 1.5), np.full(6, np.nan)])
def test_scores_that_are_none_are_refused(model, pixels, scores):
    with pytest.raises(ValueError, match="scores in 0-1"):
        model.features(pixels, scores)


def test_attended_tokens_are_read_back_in_another_order():
    attention = TokenAttention(3)
    with torch.no_grad():
        for layer in (attention.c_q, attention.c_k):
            layer.weight.zero_()  # every token sees the mean of all
        attention.c_v.weight.copy_(torch.eye(3))
        attention.c_v.bias.zero_()
        tokens = torch.tensor([[[1.0, 2.0, 3.0], [5.0, 6.0, 7.0]]])
        change = attention(tokens) - tokens
    # mean of both tokens: (3, 4, 5), twice; transposed 3, 3, 4, 4, 5, 5; read back as two rows of three
    assert change.tolist() == [[[3, 3, 4], [4, 5, 5]]]


def test_fused_maps_keep_their_place_when_no_attention_says_anything():
    fusion = MultiViewAttention(maps=2, width=6, query_width=2, cells=9)
    with torch.no_grad():
        for attention in (fusion.channel_attention, fusion.feature_attention):
            attention.c_v.weight.zero_()
            attention.c_v.bias.zero_()
        maps = torch.randn(1, 2, 6, 3, 3)
        torch.testing.assert_close(fusion(maps), maps.mean(1))


def test_every_prompt_set_may_be_an_images_own():
    network = tiny_promptiqa()
    with torch.inference_mode():
        vectors = network.image_vectors(torch.rand(3, 3, 32, 32) * 2 - 1)
        prompts = torch.randn(3, 4, TINY.width)
        together = network.compare(vectors, prompts)
        alone = [network.compare(vectors[i : i + 1], prompts[i]) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"image_size": 225}, "not a multiple"),
        ({"taps": (2, 12)}, "not among 12"),
        ({"image_size": 320}, "into 2 x 2"),
        ({"vit_heads": 7}, "number of heads"),
    ],
)
def test_sizes_that_do_not_fit_are_named(change, complaint):
    with pytest.raises(ValidationError, match=complaint):
        PromptIQAConfig(**change)


def test_without_opencv_the_extra_is_named():
    code = """
import sys
sys.modules["cv2"] = None
import numpy as np
from dpiqa.errors import ConfigurationError
from dpiqa.imaging.preprocessing import require_opencv, resize_cubic
for call in (require_opencv, lambda: resize_cubic(np.zeros((4, 4, 3), np.uint8), 2, 2)):
    try:
        call()
    except ConfigurationError as error:
        assert "dpiqa[promptiqa]" in error.hint
    else:
        raise AssertionError("no complaint")
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
