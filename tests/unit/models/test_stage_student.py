"""The student that reads every stage of its backbone."""

import pytest
import torch
from pydantic import ValidationError

from dpiqa.models.quality_decoder import QfdConfig
from dpiqa.models.stage_student import StageStudent
from dpiqa.models.student import build_student
from dpiqa.models.student_config import StudentConfig

SIZES = StudentConfig(
    backbone="test_efficientnet", input_size=128, pooling="stages", hidden=8, pixel_mean=0.5, pixel_deviation=0.5
)


def student_of(**changes):
    torch.manual_seed(0)
    student = build_student(SIZES.model_copy(update=changes)).eval()
    torch.nn.init.normal_(student.linear.weight, std=0.01)  # it begins as zero
    return student


@pytest.fixture
def images():
    return torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def test_moments_are_those_of_every_stage_and_the_last_convolution(images):
    student = student_of()
    assert isinstance(student, StageStudent)
    scores, moments = student(images)
    widths = [16, 24, 32, 48, 64, 256]
    assert (scores.shape, moments.shape, student.width) == ((2,), (2, 4 * sum(widths)), 4 * sum(widths))
    first = student.base_model.blocks[0](student.base_model.bn1(student.base_model.conv_stem(images * 2 - 1)))
    means = first.mean((2, 3))
    torch.testing.assert_close(moments[:, :16].square(), means.abs(), atol=0.03, rtol=0)  # roots, with their signs
    assert torch.equal(moments[:, :16] < 0, means < 0)
    deviations = first.std((2, 3), correction=0)
    torch.testing.assert_close(moments[:, sum(widths) :][:, :16].square(), deviations, atol=0.05, rtol=0)


@torch.inference_mode()
@pytest.mark.parametrize("stages", [1, 3, 5])
def test_a_score_from_the_output_of_the_first_stages_is_the_same(images, stages):
    student = student_of(statistics_channels=1)
    early = student.early(images, stages)
    assert early.stages == stages
    assert early.cells.shape[-2:] == (4, 4)
    torch.testing.assert_close(student(images, early=early)[0], student(images)[0], atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_the_size_of_the_picture_and_statistics_are_its_callers_choice(images):
    assert student_of()(images[:, :, :96, :64])[0].shape == (2,)
    with_statistics = student_of(statistics_channels=1)
    assert with_statistics.width == student_of().width + 4 * 207
    assert with_statistics.half().input_dtype is torch.float32


def test_training_changes_what_it_learns_and_not_what_it_normalises_by(images):
    student = student_of(dropout=0.5).train()
    before = {name: tensor.clone() for name, tensor in student.named_buffers()}
    student(images)[0].sum().backward()
    assert all(torch.equal(tensor, before[name]) for name, tensor in student.named_buffers())
    assert student.dropout.training
    assert student.base_model.conv_stem.weight.grad.abs().sum() > 0
    assert student.regress(student(images)[1]).tolist() != student.eval().regress(student(images)[1]).tolist()


def test_sizes_that_make_no_sense_are_refused():
    with pytest.raises(ValidationError, match="leave out shrink"):
        StudentConfig.model_validate(SIZES.model_dump() | {"shrink": 2})
    with pytest.raises(ValidationError, match="a decoder has a map"):
        QfdConfig(pooling="stages")
