"""Outputs of frozen stages and moments on disk: of whole pictures, their mirror images, and crops of either."""

import numpy as np
import pytest
import torch

from dpiqa.models.student import build_student
from dpiqa.models.student_config import StudentConfig
from dpiqa.training.config.precision import Arithmetic
from dpiqa.training.data.crops import Crops, as_images
from dpiqa.training.data.frozen import cached_moments, cached_stages

SIZES = StudentConfig(backbone="test_efficientnet", input_size=192, pooling="stages", hidden=8)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def student():
    torch.manual_seed(0)
    return build_student(SIZES).eval()


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (5, 192, 192, 3), dtype=np.uint8)


@pytest.fixture
def cached(student, pixels, tmp_path):
    return cached_stages(student, pixels, tmp_path, 2, Arithmetic.FLOAT32)


def crops(*, top=0, left=0, flip=False, size=192):
    return Crops(index=np.array([3]), top=np.array([top]), left=np.array([left]), flip=np.array([flip]), size=size)


@torch.inference_mode()
@pytest.mark.parametrize("flip", [False, True])
def test_whole_pictures_are_those_of_the_network_to_a_float16(student, pixels, cached, flip):
    images = as_images(pixels[3:4])
    expected = student.early(images.flip(-1) if flip else images, 2)
    early = cached.cut(crops(flip=flip), CPU)
    assert early.stages == 2
    torch.testing.assert_close(early.features, expected.features, atol=2e-3, rtol=2e-3)
    torch.testing.assert_close(early.cells, expected.cells, atol=2e-3, rtol=2e-3)


@torch.inference_mode()
@pytest.mark.parametrize("flip", [False, True])
def test_crops_are_those_of_the_cut_pixels_but_for_their_edges(student, pixels, cached, flip):
    cut = crops(top=64, left=0, flip=flip, size=128)
    expected = student.early(as_images(cut.cut(pixels)), 2)
    early = cached.cut(cut, CPU)
    assert (early.features.shape, early.cells.shape) == (expected.features.shape, expected.cells.shape)
    inner = (..., slice(3, -3), slice(3, -3))
    torch.testing.assert_close(early.features[inner], expected.features[inner], atol=3e-3, rtol=3e-3)


def test_they_are_computed_once_for_the_same_weights(student, cached, tmp_path):
    again = cached_stages(student, np.zeros((5, 192, 192, 3), dtype=np.uint8), tmp_path, 2, Arithmetic.FLOAT32)
    assert np.array_equal(again.features, cached.features)
    torch.manual_seed(1)
    other = cached_stages(build_student(SIZES), np.zeros((5, 192, 192, 3), np.uint8), tmp_path, 2, Arithmetic.FLOAT32)
    assert not np.array_equal(other.features, cached.features)


@torch.inference_mode()
@pytest.mark.parametrize("flip", [False, True])
def test_moments_are_those_of_the_network_to_a_float16(student, pixels, tmp_path, flip):
    cached = cached_moments(student, pixels, None, tmp_path, Arithmetic.FLOAT32)
    images = as_images(pixels[3:4])
    expected = student.moments(images.flip(-1) if flip else images)
    torch.testing.assert_close(cached.cut(crops(flip=flip), CPU), expected, atol=2e-3, rtol=2e-3)
