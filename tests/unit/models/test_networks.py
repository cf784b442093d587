from itertools import pairwise

import pytest
import torch

from dpiqa.models.views import score_in_views, view_corners


@pytest.fixture
def images():
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_the_feature_map_shrinks_with_the_input_and_the_score_does_not_mind(tiny_student, tiny_teacher, images):
    for network in (tiny_student, tiny_teacher):
        for side, cells in ((64, 8), (32, 4)):
            scores, feature_map = network(images[:, :, :side, :side])
            assert scores.shape == (2,)
            assert feature_map.shape == (2, 4, cells, cells)


def test_keys_and_values_of_the_text_are_computed_once_and_change_no_score(tiny_teacher, images):
    with torch.inference_mode():
        before, quality_before = tiny_teacher(images)
        tiny_teacher.prepare()
        tiny_teacher.prompts.quality.fill_(float("nan"))  # no longer read
        after, quality_after = tiny_teacher(images)
    torch.testing.assert_close(after, before, atol=1e-5, rtol=0)
    torch.testing.assert_close(quality_after, quality_before, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_the_order_of_the_prompts_changes_no_score(tiny_teacher, images):
    before, _ = tiny_teacher(images)
    text = tiny_teacher.conditioning()[:, torch.randperm(90, generator=torch.Generator().manual_seed(0))]
    tiny_teacher.conditioning = lambda: text
    torch.testing.assert_close(tiny_teacher(images)[0], before, atol=1e-5, rtol=0)
    tiny_teacher.conditioning = lambda: text * 3
    assert (tiny_teacher(images)[0] - before).abs().max() > 1e-5


def test_the_prompts_reach_the_score_through_attention(tiny_teacher, images):
    scores, _ = tiny_teacher(images)
    scores.sum().backward()
    for prompt in tiny_teacher.prompts.parameters():
        assert prompt.grad.abs().sum() > 0


def test_the_teacher_reads_every_level_of_the_unet(tiny_teacher, images):
    with torch.inference_mode():
        maps = tiny_teacher.features(images, torch.zeros(2, 4, 32, 32))
    assert [tuple(level.shape[1:]) for level in maps] == [(8, 32, 32), (8, 32, 32), (16, 16, 16), (16, 8, 8)]


def test_prompt_embeddings_are_in_the_order_of_the_prompts(tiny_teacher):
    prompts = tiny_teacher.prompts
    expected = (prompts.quality[1, 0, 0] + prompts.scene[0, 2, 0] + prompts.distortion[0, 0, 3]) / 3**0.5
    torch.testing.assert_close(prompts()[1 * 18 + 2 * 6 + 3], expected)


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
