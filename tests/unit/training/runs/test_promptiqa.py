"""PromptIQA's batches, requirements and loss; and a whole run at a tiny size."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.promptiqa import TINY, tiny_promptiqa
from support.training import make_set

from dpiqa.errors import InvalidRequest
from dpiqa.models.cards import find_card, weights_path
from dpiqa.models.promptiqa.scorer import load_promptiqa
from dpiqa.training.config.kinds import PromptIQARun, PromptLoss
from dpiqa.training.data.labelled import Labelled
from dpiqa.training.loop.log import SilentObserver, read_log
from dpiqa.training.runs.context import RunContext
from dpiqa.training.runs.promptiqa import (
    BatchAsPrompt,
    Mixture,
    PromptIQATask,
    as_requirement,
    others,
    spread_rows,
    train_promptiqa,
)

pytestmark = pytest.mark.heavy

RUN = {
    "model": {"architecture": TINY.model_dump(mode="json")},
    "data": {"sets": [{"name": "csv", "path": "a"}, {"name": "csv", "path": "b"}]},
    "plan": {"epochs": 1, "batch": 4, "precision": "float32"},
}


def labelled(count, seed, low=0.0):
    rng = np.random.default_rng(seed)
    return Labelled(
        pixels=rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8),
        labels=np.linspace(low, 1, count),
        train=np.arange(count - 2),
        val=np.arange(count - 2, count),
        sha256=("0",) * count,
        images=(),
        folder=Path(),
    )


@pytest.fixture
def mixture():
    return Mixture([labelled(14, seed=0), labelled(8, seed=1, low=0.5)])


def test_a_batch_is_of_one_set_and_an_epoch_sees_every_set(mixture):
    task = PromptIQATask(tiny_promptiqa(), mixture, PromptIQARun.model_validate(RUN))
    batches = task.batches(np.random.default_rng(0))
    located = [mixture.locate(batch) for batch in batches]
    assert [len(batch) for batch in batches] == [4] * 4
    assert sorted(len(data.labels) for data, _ in located) == [8, 14, 14, 14]
    for data, rows in located:
        assert set(rows) <= set(data.train)
    other = task.batches(np.random.default_rng(1))
    assert len(other) == 4
    assert any(not np.array_equal(batch, another) for batch, another in zip(batches, other, strict=True))


def test_everyone_but_oneself():
    assert others(3).tolist() == [[1, 2], [0, 2], [0, 1]]


def test_an_image_sees_the_scores_of_the_others_and_not_its_own():
    network = BatchAsPrompt(tiny_promptiqa()).eval()
    images, labels = torch.rand(5, 3, 32, 32), torch.linspace(0, 1, 5)
    changed = labels.clone()
    changed[2] = 0.9
    with torch.inference_mode():
        before, after = network(images, labels), network(images, changed)
        core = network.promptiqa
        rest = torch.tensor([0, 1, 3, 4])
        features = core.pair_features(core.image_vectors(images[rest] * 2 - 1), labels[rest])
        expected = core(images[2:3] * 2 - 1, features)
    assert before[2] == pytest.approx(float(after[2]), abs=1e-6)
    assert (before - after).abs().max() > 1e-6
    assert before[2] == pytest.approx(float(expected[0]), abs=1e-5)


def test_batches_become_other_requirements_as_often_as_asked():
    labels, rng = np.array([0.1, 0.3, 0.5]), np.random.default_rng(0)
    drawn = [as_requirement(labels, PromptLoss(), rng) for _ in range(2000)]
    assert np.mean([requirement[0] > requirement[2] for requirement in drawn]) == pytest.approx(0.1, abs=0.03)
    assert np.mean([np.ptp(requirement) > 0.5 for requirement in drawn]) == pytest.approx(0.5, abs=0.05)
    for expected, scaling, flipping in (
        ([0.1, 0.3, 0.5], 0, 0),
        ([0.2, 0.6, 1.0], 1, 0),
        ([0.9, 0.7, 0.5], 0, 1),
        ([0.8, 0.4, 0.0], 1, 1),
    ):
        requirement = as_requirement(labels, PromptLoss(scaling=scaling, flipping=flipping), rng)
        np.testing.assert_allclose(requirement, expected, atol=1e-12)
    np.testing.assert_array_equal(as_requirement(np.zeros(3), PromptLoss(scaling=1, flipping=0), rng), np.zeros(3))


def test_pairs_for_validation_cover_the_labels(mixture):
    data = mixture.sets[0]
    assert spread_rows(data, 4).tolist() == [0, 4, 7, 11]
    assert spread_rows(data, 100).tolist() == list(range(12))


@pytest.mark.parametrize(
    ("plan", "complaint"),
    [({"batch": 7}, "csv has 6 training images"), ({"batch": 2}, "no pairs"), ({"crop": 16}, "whole pictures")],
)
def test_what_cannot_be_learned_from_is_refused(mixture, plan, complaint):
    config = PromptIQARun.model_validate(RUN | {"plan": RUN["plan"] | plan})
    with pytest.raises(InvalidRequest, match=complaint):
        PromptIQATask(tiny_promptiqa(), mixture, config)


@pytest.fixture
def run(tmp_path):
    """Makes configurations of two sets on disk."""
    sets = [make_set(tmp_path / name, count=18, size=32) for name in ("one", "two")]

    def configured(name):
        document = RUN | {
            "data": {"sets": [{"name": "csv", "path": path} for path in sets], "cache": tmp_path / "cache"},
            "plan": {"epochs": 12, "batch": 6, "rate": 2e-3, "precision": "float32", "validate_every_steps": 16},
            "output": {
                "folder": tmp_path / name,
                "name": name,
                "log_every_steps": 6,
                "checkpoint_every_steps": 10,
                "bootstrap_draws": 20,
            },
            "validation_pairs": 4,
        }
        return PromptIQARun.model_validate(document)

    return configured


class DiesAfter(SilentObserver):
    def __init__(self, step):
        self._step = step

    def stepped(self, *, step, loss):
        if step == self._step:
            raise RuntimeError("power cut")


def test_a_run_learns_resumes_and_makes_a_model_that_scores(tmp_path, run):
    context = RunContext(models_dir=tmp_path / "models", device="cpu")
    context.models_dir.mkdir()
    whole = train_promptiqa(run("whole"), context)
    losses = [line["loss"] for line in read_log(tmp_path / "whole") if "loss" in line]
    assert np.mean(losses[-2:]) < 0.8 * losses[0]

    with pytest.raises(RuntimeError, match="power cut"):
        train_promptiqa(run("cut"), replace(context, observer=DiesAfter(17)))
    cut = train_promptiqa(run("cut"), context)
    assert cut.sha256 == whole.sha256

    card = find_card("whole", context.models_dir)
    assert "requirement" in card.score_scale
    assert card.figures["csv val"]["n"] == 6
    model = load_promptiqa(card, weights_path(card, context.models_dir), device="cpu", threads=1)
    assert model.features(np.zeros((1, 32, 32, 3), np.uint8), np.array([0.5])).shape == (1, TINY.width)
