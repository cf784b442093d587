"""Crops spoiled on the way: which, how strongly, and what their order costs."""

import tomllib

import numpy as np
import pytest
import torch
from support.training import STUDENT

from dpiqa.imaging.distortions import KINDS
from dpiqa.training.config import SpoiledLoss, StudentRun
from dpiqa.training.labelled import Labelled
from dpiqa.training.spoiled import Spoiled, order_terms, spoil, with_spoiled
from dpiqa.training.student import StudentTask, new_student


@pytest.fixture
def crops():
    """Give eight smooth pictures of 64 pixels, (8, 64, 64, 3) uint8."""
    y, x = np.mgrid[0:64, 0:64]
    waves = [np.sin(x / (3 + number)) + np.cos(y / (4 + number)) for number in range(8)]
    return np.stack([np.repeat((128 + 50 * wave).astype(np.uint8)[..., None], 3, axis=2) for wave in waves])


def test_a_share_of_the_crops_is_spoiled_at_two_strengths_by_the_generator_alone(crops):
    loss = SpoiledLoss(share=0.5)
    first, again = (spoil(crops, loss, np.random.default_rng(3)) for _ in range(2))
    assert len(set(first.rows)) == 4
    assert np.array_equal(first.pixels, again.pixels)
    assert ((first.weak >= 1) & (first.weak < first.strong) & (first.strong <= 5)).all()
    assert with_spoiled(crops, first).shape == (16, 64, 64, 3)
    assert np.array_equal(with_spoiled(crops, first)[:8], crops)


def test_the_stronger_copy_is_further_from_the_crop(crops):
    spoiled = spoil(crops, SpoiledLoss(share=1, kinds=("gaussian_noise",)), np.random.default_rng(0))
    weak, strong = np.abs(spoiled.pixels.reshape(2, 8, -1).astype(float) - crops[spoiled.rows].reshape(1, 8, -1)).mean(
        2
    )
    assert (weak < strong).all()


def test_without_a_share_nothing_is_spoiled(crops):
    rng = np.random.default_rng(0)
    assert spoil(crops, SpoiledLoss(), rng) is None
    assert rng.random() == np.random.default_rng(0).random()  # nor drawn: earlier runs go on as they were
    assert with_spoiled(crops, None) is crops
    assert order_terms(torch.zeros(8), None, SpoiledLoss()) == {}


def test_the_term_is_what_the_order_lacks():
    spoiled = Spoiled(rows=np.array([1]), pixels=np.empty(0), weak=np.array([2]), strong=np.array([5]))
    loss = SpoiledLoss(share=1, margin=0.1, weight=2)

    def cost(original, weak, strong):
        return float(order_terms(torch.tensor([9.0, original, weak, strong]), spoiled, loss)["spoiled"])

    assert cost(1.0, 0.8, 0.5) == pytest.approx(0, abs=1e-6)  # 0.1 a strength
    assert cost(1.0, 0.9, 0.5) == pytest.approx(2 * 0.1)
    assert cost(1.0, 0.8, 0.8) == pytest.approx(2 * 0.3)


def test_an_unknown_kind_is_refused_by_name():
    with pytest.raises(ValueError, match="fog_of_war"):
        SpoiledLoss(kinds=("fog_of_war",))
    assert SpoiledLoss(kinds=tuple(KINDS)).kinds == tuple(KINDS)


def test_a_student_learns_an_order_that_its_labels_do_not_show(crops):
    document = tomllib.loads(STUDENT)
    document["loss"] = {"spoiled": {"share": 1.0, "kinds": ["gaussian_noise"], "margin": 0.05}}
    run = StudentRun.model_validate(document)
    torch.manual_seed(0)
    student = new_student(run.model.architecture, run.model.begin, 0.5)
    rows = np.arange(8)
    labels = np.full(8, 0.5)
    data = Labelled(pixels=crops, labels=labels, train=rows, val=rows, sha256=("",) * 8, images=())
    task = StudentTask(student, data, run)
    optimiser = torch.optim.AdamW(student.parameters(), 3e-3)
    terms = []
    for step in range(30):
        loss = task.loss(student, rows, np.random.default_rng(step))
        terms.append(float(loss["spoiled"].detach()))
        optimiser.zero_grad()
        sum(loss.values()).backward()
        optimiser.step()
    assert np.mean(terms[-5:]) < 0.5 * np.mean(terms[:5])
