import pytest
import torch

from dpiqa.models.student import SmallStudent, Student, build_student
from dpiqa.models.student_config import StudentConfig
from dpiqa.models.teacher import SmallTeacher, Teacher, build_teacher


@pytest.fixture
def images():
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_the_feature_map_shrinks_with_the_input_and_the_score_does_not_mind(tiny_student, tiny_teacher, images):
    for network in (tiny_student, tiny_teacher):
        for side, cells in ((64, 8), (32, 4)):
            scores, feature_map = network(images[:, :, :side, :side])
            assert scores.shape == (2,)
            assert feature_map.shape == (2, 4, cells, cells)


def test_text_and_timestep_are_computed_once_and_change_no_score(tiny_teacher, images):
    with torch.inference_mode():
        before, quality_before = tiny_teacher(images)
        tiny_teacher.prepare()
        tiny_teacher.prompts.quality.fill_(float("nan"))  # no longer read
        tiny_teacher.unet.time_proj.forward = lambda steps: torch.full((len(steps), 16), float("nan"))
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


@torch.inference_mode()
def test_a_call_that_fails_leaves_nothing_behind(tiny_teacher, images):
    before, quality_before = tiny_teacher(images)

    def fail(*_):
        raise RuntimeError("halfway")

    hook = tiny_teacher.unet.up_blocks[2].register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="halfway"):
        tiny_teacher(images)
    hook.remove()
    after, quality_after = tiny_teacher(images)
    assert torch.equal(after, before)
    assert torch.equal(quality_after, quality_before)
    assert not any(block._forward_hooks for block in tiny_teacher.unet.up_blocks)


@pytest.mark.parametrize(
    ("changes", "network"),
    [
        ({}, Student),
        ({"dropout": 0.3}, Student),
        ({"shrink": 2}, SmallStudent),
        ({"statistics_channels": 6}, SmallStudent),
        ({"pooling": "moments"}, SmallStudent),
    ],
)
def test_sizes_decide_which_student_is_built(tiny_student, changes, network):
    config = StudentConfig.model_validate(tiny_student.config.model_dump() | changes)
    assert type(build_student(config)) is network
    if network is SmallStudent:
        with pytest.raises(ValueError, match="`build_student` chooses the network"):
            Student(config)


def test_a_teacher_with_prompts_of_its_own_is_not_the_published_one(tiny_teacher):
    published = tiny_teacher.config.model_copy(update={"prompts": None, "prompt_count": 3})
    assert type(build_teacher(published)) is Teacher
    assert type(tiny_teacher) is SmallTeacher
