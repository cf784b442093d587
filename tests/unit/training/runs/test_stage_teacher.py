"""Training of a teacher that looks through a student: what it begins with, what learns, and what is cached."""

import tomllib

import numpy as np
import pytest
import torch
from support.training import STAGE_TEACHER, STUDENT, publish_stage_student

from dpiqa.errors import InvalidRequest
from dpiqa.models.student import build_student
from dpiqa.models.student_config import StudentConfig
from dpiqa.training.config.kinds import TeacherMode, TeacherRun
from dpiqa.training.config.precision import Arithmetic
from dpiqa.training.data.crops import as_images
from dpiqa.training.data.labelled import Labelled
from dpiqa.training.runs.publish import export_model
from dpiqa.training.runs.teacher import StageTeacherTask, finish_teacher, new_teacher, prepare_teacher
from dpiqa.training.runs.validation import predict

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def student(folder):
    return publish_stage_student(folder)


@pytest.fixture
def data(tmp_path):
    noise = np.random.default_rng(0).normal(size=(12, 128, 128, 3))
    rows = np.arange(12)
    contrasts = np.linspace(10, 60, 12)[:, None, None, None]
    return Labelled(
        pixels=(128 + contrasts * noise).clip(0, 255).astype(np.uint8),
        labels=np.linspace(0, 1, 12),
        train=rows[:8],
        val=rows[8:],
        sha256=tuple("abcdefghijkl"),
        images=(),
        folder=tmp_path / "pixels",
    )


def run_of(tmp_path, *, plan=None, architecture=None, **model):
    document = tomllib.loads(STAGE_TEACHER)
    document["model"] |= model
    document["model"]["architecture"] |= architecture or {}
    document["plan"] |= plan or {}
    return TeacherRun.model_validate(document | {"data": {"cache": str(tmp_path)}})


def teacher_of(run, folder):
    torch.manual_seed(0)
    teacher = new_teacher(run.model, folder)
    prepare_teacher(teacher, run.model, 0.5)
    return teacher


def test_training_begins_with_exactly_the_students_scores(data, tmp_path, student, folder):
    teacher = teacher_of(run_of(tmp_path), folder).eval()
    images = as_images(data.pixels[data.val])
    with torch.inference_mode():
        assert torch.equal(teacher(images)[0], student(images)[0])
    task = StageTeacherTask(teacher, data, run_of(tmp_path))
    assert teacher.student.unit == data.spread
    cached = predict(teacher.eval(), task.data, data.val, Arithmetic.FLOAT32)
    np.testing.assert_allclose(cached, predict(student, data, data.val, Arithmetic.FLOAT32), atol=0.01)


@pytest.mark.parametrize("posterior", ["mean", "sample"])
def test_what_learns_learns_and_its_trunk_stays(data, tmp_path, student, folder, posterior):
    run = run_of(tmp_path, architecture={"posterior": posterior})
    teacher = teacher_of(run, folder)
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    task = StageTeacherTask(teacher, data, run)
    optimiser = torch.optim.AdamW([p for p in teacher.parameters() if p.requires_grad], 3e-3)
    teacher.train()
    errors = []
    for step in range(60):
        loss = task.loss(teacher, np.arange(8), np.random.default_rng(step))
        assert {"squared", "ranking", "distorted"} <= set(loss)
        errors.append(float(loss["squared"].detach()))
        optimiser.zero_grad()
        sum(loss.values()).backward()
        optimiser.step()
    assert np.mean(errors[-5:]) < 0.7 * np.mean(errors[:5])
    same = {name for name, tensor in teacher.state_dict().items() if torch.equal(tensor, before[name])}
    frozen = {name for name in before if name.startswith(("vae.", "student.base_model.", "student.standard."))}
    unused = {name for name in before if name.startswith(("unet.conv_norm_out.", "unet.conv_out."))}
    assert frozen | unused <= same
    learned = ("student.fc", "student.linear.", "QFD.linear.", "QFD.first.", "QFD.conv1.", "img_adapter.project.0.")
    assert not {name for name in same if name.startswith((*learned, "unet.conv_in.", "prompts."))}
    teacher.eval()
    scores = predict(teacher, data, data.val, Arithmetic.FLOAT32)
    finish_teacher(teacher, run.model)
    assert set(teacher.state_dict()) == set(new_teacher(run.model, folder).state_dict())
    assert teacher.student.unit == 1.0
    np.testing.assert_allclose(predict(teacher, data, data.val, Arithmetic.FLOAT32), scores, atol=1e-4)


def test_mirror_images_are_validated_from_the_cache(data, tmp_path, folder, student):
    run = run_of(tmp_path, architecture={"mirrored": True})
    teacher = teacher_of(run, folder)
    task = StageTeacherTask(teacher, data, run)
    cached = predict(teacher.eval(), task.data, data.val, Arithmetic.FLOAT32)
    np.testing.assert_allclose(cached, predict(teacher, data, data.val, Arithmetic.FLOAT32), atol=0.01)
    images = as_images(data.pixels[data.val])
    with torch.inference_mode():
        expected = (teacher(images)[0] + teacher(images.flip(-1))[0]) / 2
        np.testing.assert_allclose(teacher.scoring(data.pixels[data.val])(images)[0], expected)
    np.testing.assert_allclose(cached, expected, atol=0.01)


@pytest.mark.parametrize("mode", TeacherMode)
def test_the_regressor_learns_in_every_mode_and_the_backbone_in_none(tmp_path, folder, student, mode):
    teacher = teacher_of(run_of(tmp_path, mode=mode, lora_rank=2), folder)
    learning = {name for name, parameter in teacher.named_parameters() if parameter.requires_grad}
    assert {"student.linear.weight", "student.fc1.weight", "QFD.first.weight"} <= learning
    assert not {name for name in learning if name.startswith(("vae.", "student.base_model."))}
    assert ("img_adapter.project.0.weight" in learning) == mode.adapters


def test_what_does_not_learn_is_computed_once_for_the_same_weights(data, tmp_path, folder, student, monkeypatch):
    run = run_of(tmp_path)
    teacher = teacher_of(run, folder)
    first = StageTeacherTask(teacher, data, run).data.frozen
    again = StageTeacherTask(teacher_of(run, folder), data, run).data.frozen
    assert len(list(data.folder.glob("teacher-*"))) == 1
    assert np.array_equal(first.values, again.values)
    with torch.no_grad():
        teacher.vae.quant_conv.bias.add_(1)
    StageTeacherTask(teacher, data, run)
    assert len(list(data.folder.glob("teacher-*"))) == 2


def test_crops_and_students_that_do_not_fit_are_refused(data, tmp_path, folder, student):
    run = run_of(tmp_path, plan={"crop": 64})
    with pytest.raises(InvalidRequest, match="sees whole pictures"):
        StageTeacherTask(teacher_of(run, folder), data, run)
    with pytest.raises(InvalidRequest, match="begins as this student"):
        new_teacher(run_of(tmp_path, head_from=None).model, folder)
    sizes = StudentConfig.model_validate(tomllib.loads(STUDENT)["model"]["architecture"])
    export_model(build_student(sizes), sizes, "maps", folder, licence="Apache-2.0")
    other = run_of(tmp_path, trunk_from="maps", head_from="maps")
    with pytest.raises(InvalidRequest, match='maps has pooling = "cells"; a teacher looks only through') as refused:
        new_teacher(other.model, folder)
    assert "bundled-student" in refused.value.hint
    publish_stage_student(folder, "wide", hidden=16, dropout=0.5)
    wide = run_of(tmp_path, trunk_from="wide", head_from="wide")
    with pytest.raises(InvalidRequest, match="wide has hidden = 16, the teacher's student 8"):
        new_teacher(wide.model, folder)
    publish_stage_student(folder, "dropped", dropout=0.5)
    new_teacher(run_of(tmp_path, trunk_from="dropped", head_from="dropped").model, folder)
