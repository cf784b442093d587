import numpy as np
import pytest
from unit.pipeline.scorers import BROKEN, NAN, NAN_IN_COMPANY, POISON, OddScorer, image

from dpiqa.errors import DeviceBrokenError, DeviceMemoryError, ImageRejected
from dpiqa.pipeline.device import score_images
from dpiqa.types import Reason


def test_one_call_scores_the_whole_batch_in_order():
    scorer = OddScorer()
    batch = score_images(scorer, [image(value) for value in (0, 51, 102, 204)])
    assert batch.scores == pytest.approx([0.0, 0.2, 0.4, 0.8])
    assert scorer.batches == [4]
    assert batch.fitted == 4


def test_a_batch_that_does_not_fit_is_halved_and_all_are_scored():
    scorer = OddScorer(fits=3)
    batch = score_images(scorer, [image(value) for value in range(10)])
    assert batch.scores == pytest.approx([value / 255 for value in range(10)])
    assert batch.fitted == 2


def test_one_image_that_does_not_fit_is_rejected():
    [score] = score_images(OddScorer(fits=0), [image(1)]).scores
    assert isinstance(score, ImageRejected)
    assert score.reason is Reason.DEVICE_MEMORY


def test_a_score_that_is_not_finite_is_tried_alone_then_rejected():
    scores = score_images(OddScorer(), [image(1), image(NAN), image(NAN_IN_COMPANY)]).scores
    assert scores[0] == pytest.approx(1 / 255)
    assert isinstance(scores[1], ImageRejected)
    assert scores[1].reason is Reason.NON_FINITE_SCORE
    assert scores[2] == pytest.approx(NAN_IN_COMPANY / 255)


def test_an_image_that_fails_leaves_the_others_of_its_batch_scored():
    scores = score_images(OddScorer(), [image(1), image(POISON), image(2)]).scores
    assert isinstance(scores[1], ValueError)
    assert [scores[0], scores[2]] == pytest.approx([1 / 255, 2 / 255])


def test_a_lost_device_ends_the_batch():
    with pytest.raises(DeviceBrokenError, match="device-side assert"):
        score_images(OddScorer(), [image(1), image(BROKEN)])


def test_out_of_memory_is_not_a_lost_device_even_as_a_cuda_error():
    class Full(OddScorer):
        def score(self, pixels):
            raise DeviceMemoryError("CUDA error: out of memory")

    [score] = score_images(Full(), [image(1)]).scores
    assert isinstance(score, ImageRejected)


def test_scores_of_the_wrong_shape_are_refused():
    class Short(OddScorer):
        def score(self, pixels):
            return np.zeros(len(pixels) + 1)

    [score] = score_images(Short(), [image(1)]).scores
    assert isinstance(score, ValueError)
