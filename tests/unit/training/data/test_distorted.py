"""Distorted copies of training pictures: which, how strongly, and what their order costs."""

import tomllib

import numpy as np
import pytest
import torch
from support.training import STUDENT, waves

from dpiqa.imaging.distortions import KINDS
from dpiqa.models.scene_statistics import CHANNELS
from dpiqa.training.config.kinds import DistortedLoss, StudentRun
from dpiqa.training.data.batches import BatchSource
from dpiqa.training.data.distorted import BatchCopies, distorted_copies, order_term
from dpiqa.training.data.labelled import Labelled
from dpiqa.training.runs.student import StudentTask, new_student


@pytest.fixture
def crops():
    return waves(8)


def labelled(crops, folder):
    rows, labels = np.arange(8), np.full(8, 0.5)
    return Labelled(pixels=crops, labels=labels, train=rows, val=rows, sha256=NAMES, images=(), folder=folder)


NAMES = tuple("abcdefgh")  #: stand for the pictures' sha256


def copies_of(crops, cache, **loss):
    return distorted_copies(crops, NAMES, np.arange(8), DistortedLoss(**loss), cache)


def test_a_share_of_the_pictures_is_distorted_at_two_strengths(crops, tmp_path):
    copies = copies_of(crops, tmp_path, share=0.5)
    assert len(set(copies.rows)) == 4
    assert copies.pixels.shape == (8, 64, 64, 3)
    assert ((copies.weak >= 1) & (copies.weak < copies.strong) & (copies.strong <= 5)).all()


def test_copies_are_made_once_and_again_after_a_loss_alike(crops, tmp_path):
    first = copies_of(crops, tmp_path / "a", share=0.5)
    again = copies_of(np.zeros_like(crops), tmp_path / "a", share=0.5)  # the names say that they are the same pictures
    elsewhere = copies_of(crops, tmp_path / "b", share=0.5)
    assert np.array_equal(first.pixels, again.pixels)
    assert np.array_equal(first.pixels, elsewhere.pixels)
    assert copies_of(crops, tmp_path / "a", share=0.25).folder != first.folder


def test_the_stronger_copy_is_further_from_the_picture(crops, tmp_path):
    copies = copies_of(crops, tmp_path, share=1, kinds=("gaussian_noise",))
    far = np.abs(copies.pixels.reshape(2, 8, -1).astype(float) - crops.reshape(1, 8, -1)).mean(2)
    assert (far[0] < far[1]).all()


def test_a_batch_finds_the_copies_of_its_own_pictures(crops, tmp_path):
    copies = copies_of(crops, tmp_path, share=0.5)
    rows = np.array([*copies.rows[[2, 0]], *np.setdiff1d(np.arange(8), copies.rows)[:1]])
    batch = copies.of_batch(rows)
    assert batch.positions.tolist() == [0, 1]
    assert batch.copies.tolist() == [2, 0, 6, 4]
    assert batch.strong.tolist() == copies.strong[[2, 0]].tolist()


def test_copies_are_cut_where_their_originals_are(crops, tmp_path):
    document = tomllib.loads(STUDENT)
    document["plan"] |= {"crop": 32}
    document["loss"] = {"distorted": {"share": 1.0, "kinds": ["mean_shift"]}}
    run = StudentRun.model_validate(document | {"data": {"cache": str(tmp_path)}})
    data = labelled(crops, tmp_path).with_statistics()
    source = BatchSource(data, run.plan, run.loss.distorted, tmp_path, align=32)
    batch = source.batch(np.arange(8), np.random.default_rng(0), torch.device("cpu"))
    assert (batch.pictures.images.shape, batch.ordered.images.shape) == ((8, 3, 32, 32), (24, 3, 32, 32))
    assert (batch.pictures.statistics.shape, batch.ordered.statistics.shape) == (
        (8, CHANNELS, 1, 1),
        (24, CHANNELS, 1, 1),
    )
    assert torch.equal(batch.pictures.images, batch.ordered.images[:8])
    assert torch.equal(batch.pictures.statistics, batch.ordered.statistics[:8])
    for index in range(8):  # a shifted mean leaves the pattern as it was
        own, weak = batch.pictures.images[index].flatten(), batch.ordered.images[8 + index].flatten()
        assert torch.corrcoef(torch.stack([own, weak]))[0, 1] > 0.95


def test_copies_of_shrunk_pictures_come_with_what_they_are_copies_of(crops, tmp_path):
    copies = copies_of(crops, tmp_path, share=0.5, shrink=2, kinds=("gaussian_noise",))
    assert copies.pixels.shape == (12, 64, 64, 3)
    assert copies.folder != copies_of(crops, tmp_path, share=0.5, kinds=("gaussian_noise",)).folder
    for row, picture in zip(copies.rows, copies.pixels[:4], strict=True):
        averages = crops[row].reshape(32, 2, 32, 2, 3).mean(axis=(1, 3))
        assert np.abs(picture[:32, :32] - averages).max() <= 0.5
        assert np.array_equal(picture, picture[::-1])
        assert np.array_equal(picture, picture[:, ::-1])
    far = np.abs(copies.pixels[4:].reshape(2, 4, -1).astype(float) - copies.pixels[:4].reshape(1, 4, -1)).mean(2)
    assert (far[0] < far[1]).all()
    batch = copies.of_batch(copies.rows[[2, 0]])
    assert (batch.copies.tolist(), batch.each) == ([2, 0, 6, 4, 10, 8], 3)


def test_some_copies_are_light_jpegs_and_the_others_stay_what_they_were(crops, tmp_path):
    copies = copies_of(crops, tmp_path, share=1, kinds=("mean_shift",), light_jpeg=0.5, shrink=2)
    others = copies_of(crops, tmp_path, share=1, kinds=("mean_shift",), shrink=2)
    assert np.array_equal(copies.rows, others.rows)
    same = [np.array_equal(copies.pixels[8 + row], others.pixels[8 + row]) for row in range(8)]
    assert 0 < sum(same) < 8
    for row in np.flatnonzero(~np.array(same)):
        far = [np.abs(copies.pixels[8 * level + row].astype(float) - copies.pixels[row]).mean() for level in (1, 2)]
        assert 0 < far[0] < far[1] < 8


def test_some_pictures_are_not_shrunk_and_light_jpegs_always_are(crops, tmp_path):
    copies = copies_of(crops, tmp_path, share=1, kinds=("mean_shift",), light_jpeg=0.4, shrink=2, unshrunk=0.5)
    shrunk = copies_of(crops, tmp_path, share=1, kinds=("mean_shift",), light_jpeg=0.4, shrink=2)
    assert copies.folder != shrunk.folder
    whole = [np.array_equal(copies.pixels[row], crops[row]) for row in range(8)]
    assert 0 < sum(whole) < 8
    for row in np.flatnonzero(~np.array(whole)):
        assert np.array_equal(copies.pixels[row::8], shrunk.pixels[row::8])
    for row in np.flatnonzero(whole):  # shifted by 12 at least, which no light JPEG does
        assert abs(np.median(copies.pixels[8 + row].astype(int) - crops[row])) >= 12


def test_the_order_is_that_of_the_shrunk_pictures(crops, tmp_path):
    document = tomllib.loads(STUDENT)
    document["loss"] = {"distorted": {"share": 0.5, "shrink": 2}}
    run = StudentRun.model_validate(document | {"data": {"cache": str(tmp_path)}})
    copies = distorted_copies(crops, NAMES, np.arange(8), run.loss.distorted, tmp_path)
    source = BatchSource(labelled(crops, tmp_path), run.plan, run.loss.distorted, tmp_path, align=32)
    batch = source.batch(copies.rows, np.random.default_rng(0), torch.device("cpu"))
    assert batch.pictures.images.shape == (4, 3, 64, 64)
    assert np.array_equal((batch.ordered.images * 255).round().permute(0, 2, 3, 1).numpy(), copies.pixels)


def test_without_a_share_nothing_is_distorted(crops, tmp_path):
    assert copies_of(crops, tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_the_term_is_what_the_order_lacks():
    copies = BatchCopies(positions=np.array([1]), copies=np.array([0, 1]), weak=np.array([2]), strong=np.array([5]))
    loss = DistortedLoss(share=1, margin=0.1, weight=2)

    def cost(original, weak, strong):
        return float(order_term(torch.tensor([original, weak, strong]), copies, loss))

    assert cost(1.0, 0.8, 0.5) == pytest.approx(0, abs=1e-6)  # 0.1 a strength
    assert cost(1.0, 0.9, 0.5) == pytest.approx(2 * 0.1)
    assert cost(1.0, 0.8, 0.8) == pytest.approx(2 * 0.3)


def test_an_unknown_kind_is_refused_by_name():
    with pytest.raises(ValueError, match="fog_of_war"):
        DistortedLoss(kinds=("fog_of_war",))
    assert DistortedLoss(kinds=tuple(KINDS)).kinds == tuple(KINDS)


def test_where_nothing_is_shrunk_no_share_stays_unshrunk():
    with pytest.raises(ValueError, match="set shrink to 2 or more"):
        DistortedLoss(unshrunk=0.5)


def test_a_student_learns_an_order_that_its_labels_do_not_show(crops, tmp_path):
    document = tomllib.loads(STUDENT)
    document["loss"] = {"distorted": {"share": 1.0, "kinds": ["gaussian_noise"], "margin": 0.05}}
    run = StudentRun.model_validate(document | {"data": {"cache": str(tmp_path)}})
    torch.manual_seed(0)
    student = new_student(run.model.architecture, run.model.begin, 0.5)
    rows = np.arange(8)
    task = StudentTask(student, labelled(crops, tmp_path), run)
    optimiser = torch.optim.AdamW(student.parameters(), 3e-3)
    terms = []
    for step in range(30):
        loss = task.loss(student, rows, np.random.default_rng(step))
        terms.append(float(loss["distorted"].detach()))
        optimiser.zero_grad()
        sum(loss.values()).backward()
        optimiser.step()
    assert np.mean(terms[-5:]) < 0.5 * np.mean(terms[:5])
