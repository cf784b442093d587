"""Statistics and other rows that are computed once: how they are kept, and that networks learn from them alike."""

import tomllib

import numpy as np
import pytest
import torch
from support.training import STUDENT, TEACHER

from dpiqa.errors import InvalidRequest
from dpiqa.models.scene_statistics import CHANNELS
from dpiqa.training.config.kinds import StudentRun, TeacherRun
from dpiqa.training.config.precision import Arithmetic
from dpiqa.training.data.features import cached_statistics
from dpiqa.training.data.labelled import Labelled
from dpiqa.training.runs.student import StudentTask, new_student
from dpiqa.training.runs.teacher import TeacherTask, finish_teacher, new_teacher, prepare_teacher
from dpiqa.training.runs.validation import predict

pytestmark = pytest.mark.heavy

SIZES = {"statistics_channels": 6, "pooling": "moments", "dropout": 0.1}


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (10, 64, 64, 3), dtype=np.uint8)
    rows = np.arange(10)
    return Labelled(
        pixels=pixels,
        labels=np.linspace(0, 1, 10),
        train=rows[:8],
        val=rows[8:],
        sha256=tuple("abcdefghij"),
        images=(),
        folder=tmp_path / "pixels",
    )


def test_cached_statistics_are_those_of_the_network_to_a_float16(data):
    statistics = data.with_statistics().statistics
    assert statistics.shape == (10, 2, 2, CHANNELS)
    assert np.array_equal(statistics, cached_statistics(np.zeros_like(data.pixels), data.folder))  # not computed again
    run = StudentRun.model_validate(student_document())
    student = new_student(run.model.architecture, run.model.begin, 0.5).eval()
    rows = np.arange(10)
    cached = predict(student, data.with_statistics(), rows, Arithmetic.FLOAT32)
    np.testing.assert_allclose(cached, predict(student, data, rows, Arithmetic.FLOAT32), atol=0.01)


def student_document():
    document = tomllib.loads(STUDENT)
    document["model"]["architecture"] |= SIZES
    return document


def falls(task, network):
    """Return whether the loss of one batch falls in sixty updates."""
    optimiser = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], 1e-2)
    network.train()
    losses = []
    for step in range(60):
        loss = sum(task.loss(network, np.arange(8), np.random.default_rng(step)).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])


def test_a_student_learns_from_noise_what_statistics_alone_can_tell(data):
    torch.manual_seed(0)
    run = StudentRun.model_validate(student_document())
    student = new_student(run.model.architecture, run.model.begin, 0.5)
    assert float(student.fc3.bias.detach()) == 0.5
    task = StudentTask(student, data, run)
    assert task.data.statistics is not None
    assert falls(task, student)


def test_a_batch_of_one_is_refused_before_training(data):
    document = student_document()
    document["plan"]["batch"] = 1
    run = StudentRun.model_validate(document)
    student = new_student(run.model.architecture, run.model.begin, 0.5)
    with pytest.raises(InvalidRequest, match=r"plan\.batch is 1"):
        StudentTask(student, data, run)


def test_a_teacher_with_statistics_learns_and_ends_without_what_training_added(data):
    torch.manual_seed(0)
    document = tomllib.loads(TEACHER)
    document["model"]["architecture"]["shrink"] = 2
    document["model"]["architecture"]["input_size"] = 128
    document["model"]["architecture"]["qfd"] |= SIZES
    pixels = data.pixels.repeat(2, axis=1).repeat(2, axis=2)
    larger = Labelled(
        pixels=pixels,
        labels=data.labels,
        train=data.train,
        val=data.val,
        sha256=data.sha256,
        images=(),
        folder=data.folder,
    )
    run = TeacherRun.model_validate(document)
    teacher = new_teacher(run.model, None)
    prepare_teacher(teacher, run.model, 0.5)
    assert falls(TeacherTask(teacher, larger, run), teacher)
    teacher.eval()
    images = torch.rand(1, 3, 128, 128)
    with torch.no_grad():
        before, _ = teacher(images)
        finish_teacher(teacher, run.model)
        torch.testing.assert_close(teacher(images)[0], before, atol=1e-4, rtol=0)
