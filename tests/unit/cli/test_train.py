"""`dpiqa train`: what reaches the terminal."""

import io
import signal

import pytest
from rich.console import Console
from support.training import STUDENT, make_set
from typer.testing import CliRunner

from dpiqa.cli import train as train_command
from dpiqa.cli.main import app
from dpiqa.cli.support import console
from dpiqa.errors import InvalidRequest
from dpiqa.training.progress import blocks, listening


@pytest.fixture
def train(tmp_path):
    """Run a short training of a student: the same one, called again."""
    (tmp_path / "models").mkdir()
    environment = {"DPIQA_MODELS_DIR": str(tmp_path / "models"), "DPIQA_HOME": str(tmp_path / "home")}
    environment |= {"DPIQA_THREADS": "1", "DPIQA_DEVICE": "cpu"}
    (tmp_path / "run.toml").write_text(STUDENT)
    words = ["train", "student", "--config", tmp_path / "run.toml", "--dataset", "csv", "--data"]
    words += [make_set(tmp_path / "set"), "--out", tmp_path / "run", "--name", "mine"]
    words += ["--set", f"data.cache={tmp_path / 'cache'}", "--set", "output.bootstrap_draws=5"]
    return lambda: CliRunner().invoke(app, list(map(str, words)), env=environment)


@pytest.mark.parametrize(
    ("kind", "preset", "has_name"),
    [
        ("vae", "bundled-vae", False),
        ("diffusion", "bundled-diffusion", False),
        ("teacher", "bundled-teacher", True),
        ("student", "bundled-tiny", True),
        ("promptiqa", "paper-promptiqa", True),
    ],
)
def test_every_kind_of_run_finds_its_settings_and_its_function(tmp_path, kind, preset, has_name):
    words = ["train", kind, "--preset", preset, "--dataset", "csv", "--data", "labels.csv", "--print-config"]
    result = CliRunner().invoke(app, [*words, *(["--name", "mine"] if has_name else [])])
    assert result.exit_code == 0, result.stderr
    assert 'path = "labels.csv"' in result.stdout
    assert ('name = "mine"' in result.stdout) is has_name
    assert ("--name" in CliRunner().invoke(app, ["train", kind, "--help"]).stdout) is has_name


def test_ctrl_c_says_how_to_go_on_and_the_same_command_does(train, monkeypatch):
    stepped = train_command.Bar.stepped

    def ctrl_c(bar, *, step, loss):
        stepped(bar, step=step, loss=loss)
        if step == 5:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(train_command.Bar, "stepped", ctrl_c)
        stopped = train()
    assert (stopped.exit_code, stopped.stdout) == (130, "")
    assert "stopped after update 5 of 12" in stopped.stderr
    assert "rerun the command to resume" in stopped.stderr
    finished = train()
    assert finished.exit_code == 0, finished.stderr
    assert finished.stdout.startswith("mine:")
    assert "resuming after update 5 of 12" in finished.stderr
    assert "update 6: srcc" in finished.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_first_update_keeps_what_was_prepared(train, monkeypatch, number):
    """Decoding and the rest take minutes with a large set: they are told from the start, and not done twice."""
    prepared = train_command.Bar.prepared

    def stop(bar, what, done, total):
        prepared(bar, what, done, total)
        if done == total:
            signal.raise_signal(number)

    with monkeypatch.context() as patch:
        patch.setattr(train_command.Bar, "prepared", stop)
        stopped = train()
    assert (stopped.exit_code, stopped.stdout) == (130, "")
    assert "decoding pictures: 0 of 24 done" in stopped.stderr
    assert "decoding pictures: all 24 after" in stopped.stderr
    assert "progress is saved; rerun the command to resume" in stopped.stderr
    finished = train()
    assert finished.exit_code == 0, finished.stderr
    assert "decoding pictures" not in finished.stderr


def test_preparations_have_a_bar_each_and_training_comes_after(monkeypatch):
    terminal = io.StringIO()
    monkeypatch.setattr(
        console, "stderr", lambda: Console(file=terminal, force_terminal=True, width=200, color_system=None)
    )
    with train_command.watching() as watch, listening(watch.prepared):
        for label, done in (("decoding pictures", 64), ("scene statistics", 0)):
            for rows in blocks(label, done, 200, 64):
                assert len(rows) in {64, 8}
                watch._progress.refresh()
        watch.started(step=0, steps=10)
        watch.stepped(step=1, loss=0.5)
        watch._progress.refresh()
    text = terminal.getvalue()
    assert "decoding pictures: 64 of 200 done" in text
    assert "scene statistics: all 200 after 0s" in text
    statistics = text.split("decoding pictures: all")[1]
    assert "128/200" in statistics
    assert "1/10" in text.split("training")[-1]


def test_the_bar_shows_rate_time_left_loss_and_srcc(monkeypatch):
    terminal = io.StringIO()
    monkeypatch.setattr(
        console, "stderr", lambda: Console(file=terminal, force_terminal=True, width=200, color_system=None)
    )
    with train_command.watching() as watch:
        watch.started(step=0, steps=10)
        for step in range(1, 6):
            watch.stepped(step=step, loss=0.5 / step)
        watch.validated(step=5, figures={"srcc": 0.71234, "plcc": 0.7, "rmse": 0.1}, best=True)
        watch._progress.refresh()
    text = terminal.getvalue()
    assert "update 5: srcc 0.7123 plcc 0.7000 rmse 0.1000 (best)" in text
    last = text.split("training")[-1]
    assert "5/10" in last
    assert "loss 0.1" in last
    assert "srcc 0.7123" in last
    assert "/s" in last


def test_data_sets_and_places_go_in_pairs(tmp_path):
    path = tmp_path / 'a "quoted" name'
    overrides = train_command.overrides(["plan.epochs=3"], ["csv"], [path], tmp_path, "mine")
    assert overrides[0] == "plan.epochs=3"
    assert r"a \"quoted\" name" in overrides[1]
    with pytest.raises(InvalidRequest, match="2 data sets and 1 paths"):
        train_command.overrides(None, ["csv", "clive"], [path], None)
