"""Presets, files and overrides make one configuration; what is wrong is named."""

import pytest
import torch

from dpiqa.errors import InvalidRequest, NotFound
from dpiqa.training.config import precision
from dpiqa.training.config.file import as_toml, merged, parse_override, preset_names, resolve
from dpiqa.training.config.kinds import DiffusionRun, StudentRun, TeacherMode, TeacherRun, VaeRun

SCHEMAS = {"student": StudentRun, "teacher": TeacherRun, "vae": VaeRun, "diffusion": DiffusionRun}


@pytest.mark.parametrize("kind", SCHEMAS)
def test_every_preset_is_a_run_and_survives_being_printed(kind, tmp_path):
    assert preset_names(kind)
    for name in preset_names(kind):
        config = resolve(SCHEMAS[kind], preset=name)
        (tmp_path / "printed.toml").write_text(as_toml(config))
        assert resolve(SCHEMAS[kind], file=tmp_path / "printed.toml") == config


# DP-IQA, Tables I-III: milestones of teacher and student, updates between validations
@pytest.mark.parametrize(
    ("name", "teacher", "student", "every"),
    [
        ("clive", (), (10, 25), 50),
        ("koniq", (5,), (5,), 250),
        ("livefb", (2,), (4,), 250),
        ("spaq", (), (6,), 250),
    ],
)
def test_the_papers_settings(name, teacher, student, every):
    big = resolve(TeacherRun, preset=f"paper-{name}-teacher").plan
    small = resolve(StudentRun, preset=f"paper-{name}-student").plan
    assert (big.rate, big.batch, big.epochs, big.milestones) == (1e-5, 12, 15, teacher)
    assert (small.rate, small.batch, small.epochs, small.milestones) == (1e-4, 24, 30, student)
    for plan in (big, small):
        assert (plan.optimiser, plan.factor, plan.validate_every_steps) == ("adam", 0.2, every)
    small_loss = resolve(StudentRun, preset=f"paper-{name}-student").loss
    losses = [small_loss, resolve(TeacherRun, preset=f"paper-{name}-teacher").loss]
    assert {(loss.margin, loss.ranking, loss.unit) for loss in losses} == {(0.25, 1.0, "mos")}
    assert (small_loss.teacher_map, small_loss.teacher_score) == (1, 0)


def test_later_ones_win(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text('preset = "bundled-tiny"\n[plan]\nepochs = 3\nrate = 1e-4\n')
    config = resolve(StudentRun, file=file, overrides=["plan.rate=5e-5", "output.name=mine", "plan.crop="])
    assert (config.plan.epochs, config.plan.rate, config.plan.batch) == (3, 5e-5, 64)
    assert (config.output.name, config.plan.crop) == ("mine", None)
    assert config.plan.slow["base_model."] == 0.01


def test_auto_is_settled_by_what_the_machine_computes(monkeypatch):
    for capabilities, expected in (({"avx2": True}, "float32"), ({"avx512_bf16": True}, "bfloat16")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(precision, "cpu_capabilities", lambda features=capabilities: features)
        assert resolve(StudentRun, preset="bundled-tiny").plan.precision == expected
        assert resolve(StudentRun, preset="paper-koniq-student").plan.precision == "float32"


def test_values_are_toml_or_else_words():
    assert parse_override('a.b={c="x"}') == {"a": {"b": {"c": "x"}}}
    assert parse_override("model.mode=adapters+lora+qfd") == {"model": {"mode": "adapters+lora+qfd"}}
    assert merged({"a": {"b": 1, "c": 2}}, {"a": {"b": [3]}}) == {"a": {"b": [3], "c": 2}}


@pytest.mark.parametrize(
    ("override", "complaint", "hint"),
    [
        ("plan.learning_rate=1", "unknown key plan.learning_rate", "known there: epochs, batch"),
        ("plan.epoch=1", "unknown key plan.epoch", "did you mean epochs?"),
        ("model.architecture.hiden=1", "unknown key model.architecture.hiden", "did you mean hidden?"),
        ("plan.epochs=0", "plan.epochs: must be greater than 0", "--print-config"),
        ("plan.milestones=[3]", "plan: milestones belong to the schedule multistep", "--print-config"),
        ("output.name=../evil", "output.name: must match", "--print-config"),
        ("model.start=bundled-student", "model: give either start", "--print-config"),
        ('model.average=["other"]', "model: average names models whose backbones are averaged", "--print-config"),
        ("epochs", "'epochs' is not an override", "KEY=VALUE"),
        ("loss.spoiled.share=0.1", "unknown key loss.spoiled", "it is called loss.distorted now"),
    ],
)
def test_what_is_wrong_is_named(override, complaint, hint):
    with pytest.raises(InvalidRequest) as caught:
        resolve(StudentRun, preset="bundled-tiny", overrides=[override])
    assert complaint in caught.value.message
    assert hint in caught.value.hint


def test_a_file_that_is_wrong_is_named(tmp_path):
    file = tmp_path / "run.toml"
    with pytest.raises(InvalidRequest, match=r"run\.toml cannot be read"):
        resolve(StudentRun, file=file)
    file.write_text("[plan")
    with pytest.raises(InvalidRequest, match=r"run\.toml is not valid TOML"):
        resolve(StudentRun, file=file)
    file.write_text('preset = "bundled-tiny"\n[plan]\nepoch = 3\n')
    with pytest.raises(InvalidRequest, match=r"run\.toml: unknown key plan\.epoch"):
        resolve(StudentRun, file=file)
    file.write_text('preset = "bundled-teacher"\n')
    with pytest.raises(NotFound, match="no preset of kind student is called 'bundled-teacher'"):
        resolve(StudentRun, file=file)


@pytest.mark.parametrize("mode", TeacherMode)
def test_all_modes_have_names_on_the_command_line(mode):
    assert resolve(TeacherRun, preset="bundled-teacher", overrides=[f"model.mode={mode}"]).model.mode is mode
