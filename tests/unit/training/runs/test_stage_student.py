"""A student on a pre-trained backbone: ridge regression first, then fine-tuning of the stages that learn."""

import sys
import tomllib

import numpy as np
import pytest
import torch
from support.training import STAGE_STUDENT

from dpiqa.errors import ConfigurationError, InvalidRequest
from dpiqa.models.student import build_student
from dpiqa.training.config.file import resolve
from dpiqa.training.config.kinds import StudentRun
from dpiqa.training.config.precision import Arithmetic
from dpiqa.training.data.labelled import Labelled
from dpiqa.training.data.teacher_outputs import TeacherOutputs
from dpiqa.training.runs.initial_weights import fill_backbone, package_weights
from dpiqa.training.runs.scorer import correlation_loss
from dpiqa.training.runs.stage_student import StageTask, begin_stages, ridge, set_unit
from dpiqa.training.runs.validation import predict

pytestmark = pytest.mark.heavy


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


def run_of(tmp_path, **model):
    document = tomllib.loads(STAGE_STUDENT)
    document["model"] |= model
    return StudentRun.model_validate(document | {"data": {"cache": str(tmp_path)}})


def student_of(run, data):
    torch.manual_seed(0)
    student = build_student(run.model.architecture)
    begin_stages(student, data, run)
    return student


def test_ridge_regression_has_the_least_penalised_error():
    rng = np.random.default_rng(0)
    values, labels = torch.from_numpy(rng.normal(size=(6, 9))), torch.from_numpy(rng.normal(size=6))
    weights = ridge(values, labels, 2.0)
    normal = torch.linalg.solve(values.T @ values + 2 * torch.eye(9, dtype=torch.double), values.T @ labels)
    torch.testing.assert_close(weights, normal)


def test_it_begins_standardised_and_as_the_regression_of_the_labels(data, tmp_path):
    run = run_of(tmp_path, ridge=1e-3)
    student = student_of(run, data).eval()
    scores = predict(student, data, data.train, Arithmetic.FLOAT32)
    np.testing.assert_allclose(scores, data.labels[data.train], atol=0.02)  # as many moments as one likes: no error
    heavy = student_of(run_of(tmp_path, ridge=1e9), data).eval()
    np.testing.assert_allclose(predict(heavy, data, data.train, Arithmetic.FLOAT32), data.centre, atol=1e-3)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_learns_learns_and_what_is_frozen_stays(data, tmp_path, precision):
    run = run_of(tmp_path, ridge=1e9)
    run = run.model_copy(update={"plan": run.plan.model_copy(update={"precision": Arithmetic(precision)})})
    student = student_of(run, data)
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    task = StageTask(student, data, run)
    assert task.data.frozen.stages == 2
    optimiser = torch.optim.AdamW([p for p in student.parameters() if p.requires_grad], 5e-5)
    student.train()
    errors = []
    for step in range(60):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            loss = task.loss(student, np.arange(8), np.random.default_rng(step))
        assert set(loss) == {"squared", "correlation", "distorted"}
        errors.append(float(loss["squared"].detach()))
        optimiser.zero_grad()
        sum(loss.values()).backward()
        optimiser.step()
    assert np.mean(errors[-5:]) < 0.95 * np.mean(errors[:5])
    same = {name for name, tensor in student.state_dict().items() if torch.equal(tensor, before[name])}
    frozen = ("base_model.conv_stem.", "base_model.bn1.", "base_model.blocks.0.", "base_model.blocks.1.")
    learned = {name for name, parameter in student.named_parameters() if not name.startswith(frozen)}
    assert same == set(before) - learned


@pytest.mark.parametrize("stages", [2, 5])
def test_scores_from_the_cache_are_those_of_the_pixels(data, tmp_path, stages):
    run = run_of(tmp_path, frozen_stages=stages)
    run = run.model_copy(update={"plan": run.plan.model_copy(update={"crop": None})})
    student = student_of(run, data)
    cached = predict(student.eval(), StageTask(student, data, run).data, data.val, Arithmetic.FLOAT32)
    np.testing.assert_allclose(cached, predict(student.eval(), data, data.val, Arithmetic.FLOAT32), atol=0.01)


def test_where_nothing_of_the_backbone_learns_its_regressor_does(data, tmp_path):
    run = run_of(tmp_path, frozen_stages=5, ridge=None)
    student = student_of(run, data)
    with pytest.raises(InvalidRequest, match=r"leave out plan\.crop"):
        StageTask(student, data, run)
    run = run.model_copy(update={"plan": run.plan.model_copy(update={"crop": None})})
    task = StageTask(student, data, run)
    before = {name: tensor.clone() for name, tensor in student.base_model.state_dict().items()}
    optimiser = torch.optim.AdamW([p for p in student.parameters() if p.requires_grad], 1e-3)
    errors = []
    for step in range(40):
        loss = task.loss(student.train(), np.arange(8), np.random.default_rng(step))
        errors.append(float(loss["squared"].detach()))
        optimiser.zero_grad()
        sum(loss.values()).backward()
        optimiser.step()
    assert np.mean(errors[-5:]) < 0.5 * np.mean(errors[:5])
    assert all(torch.equal(tensor, before[name]) for name, tensor in student.base_model.state_dict().items())


def test_it_learns_a_teachers_scores_and_refuses_its_map(data, tmp_path):
    outputs = TeacherOutputs(files=(), scores=np.linspace(0, 1, 12, dtype=np.float32), power=1.0)
    run = run_of(tmp_path)
    student = student_of(run, data)
    task = StageTask(student, data, run, outputs)
    terms = task.loss(student, np.arange(8), np.random.default_rng(0))
    assert float(terms["teacher_score"].detach()) > 0
    with_map = run.model_copy(update={"loss": run.loss.model_copy(update={"teacher_map": 1.0})})
    with pytest.raises(InvalidRequest, match="no map to learn"):
        StageTask(student, data, with_map, outputs)


def test_the_unit_while_training_changes_no_score(data, tmp_path):
    run = run_of(tmp_path)
    student = student_of(run, data).eval()
    before = predict(student, data, data.val, Arithmetic.FLOAT32)
    StageTask(student, data, run)
    assert student.unit == data.spread
    np.testing.assert_allclose(predict(student.eval(), data, data.val, Arithmetic.FLOAT32), before, atol=1e-5)
    set_unit(student, 1.0)
    np.testing.assert_allclose(predict(student, data, data.val, Arithmetic.FLOAT32), before, atol=1e-5)


def test_more_frozen_stages_than_there_are_and_other_students_are_refused(data, tmp_path):
    run = run_of(tmp_path, frozen_stages=6)
    with pytest.raises(InvalidRequest, match="the backbone has 5 stages"):
        StageTask(build_student(run.model.architecture), data, run)
    with pytest.raises(InvalidRequest, match=r'frozen_stages belong to a student with pooling = "stages"'):
        resolve(
            StudentRun,
            preset="finetune-student",
            overrides=["model.start=", "model.architecture={}", "model.frozen_stages=1"],
        )


def test_the_correlation_loss_is_between_zero_and_one():
    labels = torch.tensor([0.1, 0.2, 0.6])
    assert correlation_loss(3 * labels - 1, labels) == pytest.approx(0, abs=1e-6)
    assert correlation_loss(-labels, labels) == pytest.approx(1)
    assert correlation_loss(torch.ones(3), labels) == pytest.approx(0.5)


def test_a_package_of_weights_is_found_without_importing_it(tmp_path, monkeypatch):
    student = build_student(run_of(tmp_path).model.architecture)
    folder = tmp_path / "fake_weights" / "files"
    folder.mkdir(parents=True)
    (tmp_path / "fake_weights" / "__init__.py").write_text("raise RuntimeError('imported')")
    other = build_student(student.config).base_model.state_dict()
    named = {f"_{number}": tensor for number, tensor in enumerate(other.values())}
    torch.save(named | {"_fc.weight": torch.zeros(1)}, folder / "net.pth")
    monkeypatch.syspath_prepend(tmp_path)
    fill_backbone(student, package_weights("fake_weights"))
    assert torch.equal(student.base_model.conv_stem.weight, other["conv_stem.weight"])
    (folder / "second.pth").touch()
    with pytest.raises(InvalidRequest, match=r"holds 2 \.pth files"):
        package_weights("fake_weights")
    assert "fake_weights" not in sys.modules
    with pytest.raises(ConfigurationError, match="no_such_weights, which is not installed"):
        package_weights("no_such_weights")
