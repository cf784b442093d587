"""PromptIQA through `load_scorer`: one checkpoint in memory, however many requirements."""

import numpy as np
import pytest
from support.promptiqa import write_tiny_promptiqa

from dpiqa.errors import CheckpointError
from dpiqa.models.choice import ModelChoice
from dpiqa.models.loading import load_scorer
from dpiqa.requirement import PreparedRequirement
from dpiqa.types import Direction

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


@pytest.fixture
def card(tmp_path):
    return write_tiny_promptiqa(tmp_path, "tiny")


def prepared(card, *, version=1, seed=0, width=16):
    return PreparedRequirement(
        name="blur",
        version=version,
        base_scorer_id=card.scorer_id,
        features=np.random.default_rng(seed).normal(size=(5, width)).astype(np.float32),
        direction=Direction.LOWER,
    )


def load(folder, requirement, **options):
    choice = ModelChoice(model="tiny", requirement=requirement.id, **options)
    return load_scorer(choice, models_dir=folder, device="cpu", threads=1, requirement=requirement)


def test_requirements_share_the_network_and_keep_their_own_scores(card, tmp_path):
    first, second = load(tmp_path, prepared(card)), load(tmp_path, prepared(card, version=2, seed=1))
    before = first.score(PIXELS)
    assert first.network.network is second.network.network
    assert (first.card.scorer_id, second.card.scorer_id) == (f"{card.scorer_id}:blur@1", f"{card.scorer_id}:blur@2")
    assert np.abs(second.score(PIXELS) - before).max() > 1e-3
    np.testing.assert_array_equal(first.score(PIXELS), before)
    assert first.card.lower_is_better
    assert "lower is better" in first.card.score_scale


@pytest.mark.parametrize(("precision", "tolerance"), [("bfloat16", 0.05), ("float16", 0.01)])
def test_less_precision_is_another_network_by_the_same_features(card, tmp_path, precision, tolerance):
    exact, rough = load(tmp_path, prepared(card)), load(tmp_path, prepared(card), precision=precision)
    assert rough.card.scorer_id == f"{card.scorer_id.replace('float32', precision)}:blur@1"
    np.testing.assert_allclose(rough.score(PIXELS), exact.score(PIXELS), atol=tolerance, rtol=0)


def test_an_exchanged_checkpoint_is_not_mistaken_for_the_one_in_memory(card, tmp_path):
    before = load(tmp_path, prepared(card)).score(PIXELS)
    exchanged = write_tiny_promptiqa(tmp_path, "tiny", seed=1)
    with pytest.raises(CheckpointError, match="blur@1 was made with"):
        load(tmp_path, prepared(card))
    assert np.abs(load(tmp_path, prepared(exchanged)).score(PIXELS) - before).max() > 1e-3


def test_features_are_not_forgotten_silently(card, tmp_path):
    with pytest.raises(ValueError, match="needs the features of its requirement"):
        load_scorer(ModelChoice(model="tiny", requirement="blur@1"), models_dir=tmp_path, device="cpu")
