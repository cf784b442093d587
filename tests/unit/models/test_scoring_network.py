from itertools import pairwise

import pytest
import torch

from dpiqa.models.scoring_network import score_in_views, view_corners


@pytest.fixture
def images():
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("extent", "size"), [(512, 192), (512, 256), (512, 511), (64, 64 - 1)])
def test_views_cover_the_picture_to_its_edges(extent, size):
    corners = view_corners(extent, size)
    assert corners[0] == 0
    assert corners[-1] == extent - size
    assert all(following - corner <= size for corner, following in pairwise(corners))


@torch.inference_mode()
def test_a_score_in_views_is_their_mean(tiny_student, images):
    quarters = [images[:, :, top : top + 32, left : left + 32] for top in (0, 32) for left in (0, 32)]
    expected = torch.stack([tiny_student(quarter)[0] for quarter in quarters]).mean(0)
    torch.testing.assert_close(score_in_views(tiny_student, images, 32), expected)
    torch.testing.assert_close(score_in_views(tiny_student, images, None), tiny_student(images)[0])
