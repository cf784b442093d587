"""Checks of the pairs of a requirement, before anything is scored by it."""

import numpy as np
import pytest
from support.prompting import LineModel

from dpiqa.errors import CheckpointError, InvalidRequest
from dpiqa.requirement import Pair, Stability
from dpiqa.requirements.checks import ALIKE_DB, check, psnr
from dpiqa.requirements.pair_images import PairImages

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)


def grey(*levels):
    return np.stack([np.full((8, 8, 3), round(level * 255), dtype=np.uint8) for level in levels])


def checked(scores, levels=LEVELS, *, digests=None, pixels=None, force=False, model=None, step=lambda: None):
    pairs = [Pair(f"/p/{number}.png", score) for number, score in enumerate(scores)]
    digests = tuple(digests or map(str, range(len(pairs))))
    images = PairImages(grey(*levels) if pixels is None else pixels, digests)
    return check(pairs, images, model or LineModel(), force=force, step=step)


def test_pairs_that_agree_are_stable():
    preparation = checked(LEVELS)
    assert preparation.features == pytest.approx(np.stack([grey(*LEVELS).mean(axis=(1, 2, 3)) / 255, LEVELS], axis=1))
    assert preparation.stability.srcc == 1
    assert preparation.stability.mae == pytest.approx(0, abs=0.01)
    assert preparation.stability.scores == pytest.approx(LEVELS, abs=0.01)
    assert preparation.contradictions == ()


def test_one_wrong_pair_shows_in_the_figure_and_in_its_own_score():
    good = checked((0.1, 0.2, 0.3, 0.5, 0.6, 0.9), levels=(0.1, 0.2, 0.3, 0.5, 0.6, 0.9))
    bad = checked((0.1, 0.2, 0.3, 1.0, 0.6, 0.9), levels=(0.1, 0.2, 0.3, 0.5, 0.6, 0.9))
    assert good.stability.srcc > bad.stability.srcc > 0
    assert good.stability.mae < bad.stability.mae
    errors = np.abs(np.array(bad.stability.scores) - (0.1, 0.2, 0.3, 1.0, 0.6, 0.9))
    assert errors.argmax() == 3


def test_the_left_out_pair_does_not_predict_itself():
    """Its score changes the predictions of the others only."""
    first, second = checked((0.1, 0.3, 0.5, 0.7, 0.9)), checked((0.1, 0.3, 1.0, 0.7, 0.9))
    assert first.stability.scores[2] == second.stability.scores[2]
    assert first.stability.scores[1] != second.stability.scores[1]


def test_pairs_that_contradict_each_other_need_force():
    scores = (0.9, 0.1, 0.9, 0.1, 0.9)  # no line fits: each is scored by the others the wrong way round
    with pytest.raises(InvalidRequest, match="leave-one-out SRCC -") as caught:
        checked(scores)
    assert "--force" in caught.value.hint
    preparation = checked(scores, force=True)
    assert preparation.stability.srcc < 0
    assert len(preparation.contradictions) == 1


def test_a_model_that_sees_no_difference():
    with pytest.raises(InvalidRequest, match="SRCC undefined"):
        checked((0.1, 0.1, 0.5, 0.9, 0.9), levels=(0.5,) * 5, pixels=grey(*(0.5,) * 5), model=Blind())


class Blind(LineModel):
    def scorer(self, requirement):
        scorer = super().scorer(requirement)
        scorer.score = lambda pixels: np.full(len(pixels), 0.5)
        return scorer


def test_an_image_listed_twice():
    with pytest.raises(InvalidRequest, match="pairs 2 and 3 are the same image with the same score") as caught:
        checked((0.1, 0.3, 0.3, 0.7, 0.9), levels=(0.1, 0.3, 0.3, 0.7, 0.9), digests="abbde", force=True)
    assert caught.value.hint == "leave one of them out"


def test_the_same_bytes_with_two_scores_contradict():
    arguments = {"scores": (0.1, 0.3, 0.35, 0.7, 0.9), "levels": (0.1, 0.3, 0.3, 0.7, 0.9), "digests": "abbde"}
    with pytest.raises(InvalidRequest, match=r"/p/1.png \(0.3\) and /p/2.png \(0.35\) are the same image"):
        checked(**arguments)
    assert len(checked(**arguments, force=True).contradictions) == 1


def noisy(level, sigma, seed):
    noise = np.random.default_rng(seed).normal(level * 255, sigma, (64, 64, 3))
    return noise.round().clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(("sigma", "alike"), [(1.0, True), (6.0, False)])
def test_the_same_picture_in_other_bytes(sigma, alike):
    """Indistinguishable images must not differ by more than a grade; visible noise may."""
    pixels = np.stack([noisy(level, 0.1, 0) for level in LEVELS])
    pixels[1] = noisy(0.5, sigma, 1)
    assert (psnr(pixels[1], pixels[2]) > ALIKE_DB) is alike
    scores = (0.1, 0.3, 0.55, 0.7, 0.9)
    contradictions = checked(scores, pixels=pixels, force=True).contradictions
    assert any("/p/1.png (0.3) and /p/2.png (0.55) are alike" in sentence for sentence in contradictions) is alike
    close = checked((0.1, 0.4, 0.55, 0.7, 0.9), pixels=pixels, force=True).contradictions
    assert not any("alike" in sentence for sentence in close)


def test_psnr():
    black, white = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)
    assert psnr(black, black) == float("inf")
    assert psnr(black, white) == 0
    assert psnr(black, black + 1) == pytest.approx(48.13, abs=0.01)


def test_a_broken_model_is_not_stored():
    class Broken(LineModel):
        def scorer(self, requirement):
            scorer = super().scorer(requirement)
            scorer.score = lambda pixels: np.full(len(pixels), np.nan)
            return scorer

    with pytest.raises(CheckpointError, match="no finite score"):
        checked(LEVELS, model=Broken(), force=True)


def test_every_pair_is_a_step():
    steps = []
    checked(LEVELS, step=lambda: steps.append(1))
    assert len(steps) == len(LEVELS)


def test_it_can_be_stopped_between_images():
    model, steps = LineModel(), []

    def step():
        steps.append(1)
        if len(steps) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        checked((*LEVELS, 0.2), levels=(*LEVELS, 0.2), model=model, step=step)
    assert model.calls == [1, 1, 1]


@pytest.mark.parametrize(("srcc", "wrong"), [(None, True), (-0.1, True), (0.0, True), (0.01, False), (1.0, False)])
def test_what_counts_as_contradictory(srcc, wrong):
    assert Stability(srcc, 0.1, ()).is_contradictory is wrong
