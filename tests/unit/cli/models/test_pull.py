"""Pulling from a server on loopback, as users do it."""

import hashlib
import json
import os
import pty
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save
from support.onnx_files import green_mean
from support.scripted_server import Script, serving

from dpiqa.models.catalogue.entries import find_entry
from dpiqa.models.catalogue.pulled import part_folder, read_record

MODEL = "dpiqa-student-onnx"
CONTENT = green_mean(512)
PART = "clip-vit-l14"
TERMS = "--accept-license"


@pytest.fixture
def server(monkeypatch):
    """Google Drive and the hub in one."""
    with serving(Script(CONTENT)) as server:
        monkeypatch.setenv("DPIQA_DRIVE_URL", server.url)
        monkeypatch.setenv("DPIQA_HUB_URL", server.url)
        yield server


@pytest.fixture
def models_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("DPIQA_MODELS_DIR", str(tmp_path / "models"))
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def part_files(server):
    """Put the files of a part on the server."""
    prefix = "/openai/clip-vit-large-patch14/resolve/main/"
    server.files = {prefix + name: name.encode() for name in find_entry(PART).files}
    server.files[prefix + "model.safetensors"] = save({"text": torch.arange(6.0)})
    return prefix


def test_a_model_is_fetched_imported_and_scores(run, server, models_dir):
    server.plan = ["cut"]
    result = run("models", "pull", MODEL, TERMS, "--json")
    assert result.exit_code == 0, result.output
    card = json.loads(result.stdout)
    assert (card["name"], card["sha256"]) == (MODEL, hashlib.sha256(CONTENT).hexdigest())
    assert "KonIQ-10k, split unknown" in card["trained_on"]
    assert "CC BY-NC-SA" in card["licence"]
    assert "arXiv:2405.19996" in card["paper"]
    assert server.requests[0][0].startswith("/download?id=1PNznQU-vuS2ThA6tWT-fy3DmzPIuJRTN&")
    assert run("models", "verify", MODEL).exit_code == 0
    assert not (models_dir / "downloads" / MODEL).exists()
    known = read_record(models_dir).files[f"{MODEL}/dpiqa-student-koniq.onnx"]
    assert (known.sha256, known.bytes) == (card["sha256"], len(CONTENT))


def test_terms_are_shown_and_accepted_once(run, server, models_dir):
    refused = run("models", "pull", MODEL)
    assert refused.exit_code == 78
    assert "CC BY-NC-SA 4.0" in refused.stderr
    assert "--accept-license" in refused.stderr
    assert not server.requests
    assert run("models", "pull", MODEL, TERMS, "--as", "mine").exit_code == 0
    assert run("models", "pull", MODEL).exit_code == 0


def test_another_file_under_the_same_name_is_refused(run, server, models_dir):
    assert run("models", "pull", MODEL, TERMS).exit_code == 0
    assert run("models", "remove", MODEL, "--yes").exit_code == 0
    server.content = green_mean(512, with_map=True)
    result = run("models", "pull", MODEL)
    assert result.exit_code == 78
    assert "is not the file that was pulled on" in result.stderr
    assert MODEL not in run("models", "list").stdout
    server.content = CONTENT
    assert run("models", "pull", MODEL).exit_code == 0


def test_a_server_that_announces_less_than_there_is_gives_no_model(run, server, models_dir):
    server.plan = ["understate"]
    result = run("models", "pull", MODEL, TERMS)
    assert result.exit_code == 78
    assert "is not an ONNX model" in result.stderr
    assert not read_record(models_dir).files
    assert run("models", "pull", MODEL).exit_code == 0


def test_quota_and_missing_files_have_their_exit_codes(run, server, models_dir):
    server.plan = [(200, {"Content-Type": "text/html"}, b"<title>Google Drive - Quota exceeded</title>")]
    result = run("models", "pull", MODEL, TERMS)
    assert result.exit_code == 3
    assert "by hand" in result.stderr
    server.plan = [(404, {}, b"")]
    assert run("models", "pull", MODEL).exit_code == 4


def test_a_file_fetched_by_hand_will_do(run, server, models_dir, tmp_path):
    (tmp_path / "from-browser").write_bytes(CONTENT)
    assert run("models", "pull", MODEL, TERMS, "--source", tmp_path / "from-browser").exit_code == 0
    assert not server.requests
    assert (tmp_path / "from-browser").exists()


def test_only_downloading_leaves_the_file_for_later(run, server, models_dir):
    result = run("models", "pull", MODEL, TERMS, "--no-import", "--json")
    assert result.exit_code == 0
    folder = models_dir / "downloads" / MODEL
    assert json.loads(result.stdout)["folder"] == str(folder)
    assert (folder / "dpiqa-student-koniq.onnx").read_bytes() == CONTENT
    assert run("models", "pull", MODEL).exit_code == 0
    assert len(server.requests) == 1


def test_what_would_be_refused_after_the_download_is_refused_before(run, server, models_dir, tmp_path):
    without = run("models", "pull", "dpiqa-teacher-koniq", TERMS)
    assert without.exit_code == 2
    assert "--text-embeddings" in without.stderr
    assert run("models", "pull", MODEL, "--as", "bundled-student").exit_code == 2
    words = ("--text-embeddings", tmp_path / "text.npy")
    assert run("models", "pull", "dpiqa-teacher-koniq", *words).exit_code == 4
    (tmp_path / "text.npy").write_bytes(b"")
    assert run("models", "pull", MODEL, *words).exit_code == 2
    assert not server.requests


def test_a_part_is_kept_as_it_is_and_checked(run, server, models_dir, monkeypatch):
    prefix = part_files(server)
    monkeypatch.setenv("HF_TOKEN", "hush")
    assert run("models", "pull", PART, TERMS).exit_code == 0
    assert {headers["Authorization"] for _, headers in server.requests} == {"Bearer hush"}
    folder = part_folder(PART, models_dir)
    assert {path.name for path in folder.iterdir()} == set(find_entry(PART).files)
    assert run("models", "verify").exit_code == 0
    (folder / "config.json").write_bytes(b"changed")
    result = run("models", "verify", PART, "--json")
    assert result.exit_code == 1
    assert f"{PART}/config.json is not the file" in json.loads(result.stdout)[0]["message"]
    first_requests = len(server.requests)
    assert run("models", "pull", PART).exit_code == 0
    assert [path for path, _ in server.requests[first_requests:]] == [prefix + "config.json"]
    assert run("models", "verify", PART).exit_code == 0


def test_a_part_whose_weights_are_cut_off_names_the_tensor(run, server, models_dir):
    prefix = part_files(server)
    server.files[prefix + "model.safetensors"] = server.files[prefix + "model.safetensors"][:-4]
    result = run("models", "pull", PART, TERMS)
    assert result.exit_code == 78
    assert "it is cut off within tensor text" in result.stderr
    part_files(server)
    assert run("models", "pull", PART).exit_code == 0


def test_what_is_available_is_listed(run, server, models_dir):
    assert run("models", "pull", MODEL, TERMS).exit_code == 0
    listed = {entry["name"]: entry for entry in json.loads(run("models", "list", "--available", "--json").stdout)}
    assert listed[MODEL]["here"]
    assert not listed["promptiqa"]["here"]
    assert listed["dpiqa-student-koniq"]["about_bytes"] > 3e8
    table = run("models", "list", "--available").stdout
    assert all(words in table for words in ("unknown", "about 0.3 GB", "CreativeML Open RAIL-M"))


def test_the_folder_can_be_copied_to_a_machine_without_a_network(run, server, models_dir, tmp_path, monkeypatch):
    part_files(server)
    assert run("models", "pull", PART, TERMS).exit_code == 0
    server.files = None
    assert run("models", "pull", MODEL, TERMS).exit_code == 0
    mirror = tmp_path / "mirror"
    shutil.copytree(models_dir, mirror)
    shutil.rmtree(models_dir)
    monkeypatch.setenv("DPIQA_MODELS_DIR", str(mirror))
    monkeypatch.setenv("DPIQA_DRIVE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("DPIQA_HUB_URL", "http://127.0.0.1:1")
    result = json.loads(run("models", "verify", "--json").stdout)
    assert {MODEL, PART} <= {finding["model"] for finding in result if finding["ok"]}
    assert all(finding["ok"] for finding in result)
    assert run("models", "pull", PART).exit_code == 0


def test_a_damaged_record_is_named(run, server, models_dir):
    (models_dir / "downloads.lock").write_text("{")
    result = run("models", "pull", MODEL, TERMS)
    assert result.exit_code == 78
    assert "downloads.lock cannot be read" in result.stderr


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 78)])
def test_on_a_terminal_the_terms_are_asked_for(server, models_dir, answer, code):
    ours, theirs = pty.openpty()
    try:
        os.write(ours, f"{answer}\n".encode())
        argv = [sys.executable, "-m", "dpiqa.cli", "models", "pull", MODEL]
        result = subprocess.run(argv, stdin=theirs, capture_output=True, text=True, timeout=120, check=False)
    finally:
        os.close(ours)
        os.close(theirs)
    assert result.returncode == code, result.stderr
    assert "Do you accept these terms?" in result.stderr
    assert bool(server.requests) == (answer == "y")
