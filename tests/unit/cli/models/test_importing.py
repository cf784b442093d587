"""Importing and removing models from the command line."""

import json
import shutil

import pytest
from PIL import Image
from support.onnx_files import green_mean

from dpiqa.settings import default_models_dir


@pytest.fixture
def file(tmp_path):
    (tmp_path / "student.onnx").write_bytes(green_mean(512))
    return tmp_path / "student.onnx"


@pytest.fixture(autouse=True)
def data_home(tmp_path, monkeypatch):
    """A user without settings."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data"


def test_without_settings_models_go_where_every_command_finds_them(run, file, data_home):
    assert "bundled-student" in run("models", "list").stdout
    assert not data_home.exists()
    result = run("models", "import", file, "--kind", "onnx", "--name", "older", "--licence", "CC BY-NC-SA 4.0")
    assert result.exit_code == 0, result.output
    assert "a test image scored" in result.stderr
    assert "CC BY-NC-SA 4.0" in result.stdout
    assert (default_models_dir() / "older.onnx").is_file()
    assert default_models_dir().is_relative_to(data_home)
    assert "older" in run("models", "list").stdout
    assert run("models", "verify", "older").exit_code == 0
    doctor = json.loads(run("doctor", "--json").stdout)
    assert any(finding["name"] == "models" and "older" in finding["message"] for finding in doctor)


def test_an_imported_model_scores_through_a_profile_also_from_a_copy(run, file, tmp_path, data_home, monkeypatch):
    run("models", "import", file, "--kind", "onnx", "--name", "older", "--licence", "x")
    shutil.copytree(default_models_dir(), tmp_path / "copy")
    shutil.rmtree(data_home)
    monkeypatch.setenv("DPIQA_MODELS_DIR", str(tmp_path / "copy"))
    profiles = tmp_path / "profiles"
    profiles.mkdir()
    (profiles / "mine.toml").write_text('name = "mine"\nversion = 1\nstudent = "older"\n')
    monkeypatch.setenv("DPIQA_PROFILES_DIR", str(profiles))
    monkeypatch.setenv("DPIQA_DECODE_PROCESSES", "1")
    Image.new("RGB", (40, 30), (0, 51, 0)).save(tmp_path / "green.png")
    result = run("score", tmp_path / "green.png", "--profile", "mine", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)[0]["score"] == pytest.approx(0.2, abs=1e-3)


def test_a_licence_that_is_not_stated_is_warned_of(run, file):
    result = run("models", "import", file, "--kind", "onnx", "--name", "older", "--json")
    assert "states no licence" in result.stderr
    assert json.loads(result.stdout)["licence"] == "not stated"


def test_a_refused_file_is_one_line_and_an_exit_code(run, tmp_path):
    (tmp_path / "page.pth").write_text("<html>")
    result = run("models", "import", tmp_path / "page.pth", "--kind", "student", "--name", "page")
    assert result.exit_code == 78
    assert "web page" in result.stderr
    assert run("models", "import", tmp_path / "gone", "--kind", "student", "--name", "page").exit_code == 4
    assert run("models", "import", tmp_path / "page.pth", "--kind", "pixels", "--name", "page").exit_code == 2


def test_removing_asks_and_leaves_what_comes_with_dpiqa(run, file):
    run("models", "import", file, "--kind", "onnx", "--name", "older", "--licence", "x")
    asked = run("models", "remove", "older")
    assert (asked.exit_code, "--yes" in asked.stderr) == (2, True)
    assert "older" in run("models", "list").stdout
    removed = run("models", "remove", "older", "--yes", "--json")
    assert json.loads(removed.stdout)["removed"] == "older"
    assert [path.name for path in default_models_dir().iterdir()] == [".lock"]
    assert run("models", "remove", "older", "--yes").exit_code == 4
    for name in ("bundled-student", "brightness"):
        result = run("models", "remove", name, "--yes")
        assert (result.exit_code, "comes with dpiqa" in result.stderr) == (2, True)


def test_the_scorer_id_of_a_score_finds_the_model_with_its_weights(run):
    first = "bundled-student:3d1332457711:squash-bilinear-512x512-v2:float32"
    card = json.loads(run("models", "show", first, "--json").stdout)
    assert card["sha256"].startswith("3d1332457711")
    unknown = run("models", "show", first.replace("3d13", "0000"))
    assert (unknown.exit_code, "there is no model called" in unknown.stderr) == (4, True)
