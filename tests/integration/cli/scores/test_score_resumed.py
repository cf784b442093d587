"""`dpiqa score` that goes on: --resume, --retry-failed, kills and Ctrl-C."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.photos import png

from dpiqa.objects.store import LocalFiles


@pytest.fixture
def read(monkeypatch):
    """The files that were read."""
    names = []
    get = LocalFiles.get

    def noted(self, ref, n):
        names.append(Path(ref.key).name)
        return get(self, ref, n)

    monkeypatch.setattr(LocalFiles, "get", noted)
    return names


@pytest.fixture
def folder(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for n in range(5):
        (photos / f"{n}.png").write_bytes(png(n / 5))
    (photos / "broken.jpg").write_bytes(b"no image")
    return photos


def table(name="f.csv"):
    with Path(name).open(newline="") as file:
        return {Path(row["path"]).name: row for row in csv.DictReader(file)}


def score(run, *words):
    return run("score", "photos", "--model", "brightness", "-o", "f.csv", *words)


def test_nothing_is_scored_twice(run, folder, read):
    assert score(run, "-n", "3", "--resume").exit_code == 0
    assert sorted(read) == ["0.png", "1.png", "2.png"]
    again = score(run)
    assert (again.exit_code, "--resume goes on with it" in again.stderr) == (2, True)
    read.clear()
    assert score(run, "--resume").exit_code == 1
    assert sorted(read) == ["3.png", "4.png", "broken.jpg"]
    read.clear()
    (folder / "1.png").write_bytes(png(1))
    (folder / "new.png").write_bytes(png(0))
    result = score(run, "--resume", "--json")
    assert result.exit_code == 1  # the file has an image without a score
    assert json.loads(result.stdout) == {"output": "f.csv", "rows": 2, "schema": "files@1"}
    assert sorted(read) == ["1.png", "new.png"]
    assert "1 of the known ones have no score: --retry-failed" in result.stderr
    assert {name: row["score"] for name, row in table().items()} == {
        **{f"{n}.png": pytest.approx(str(n / 5)) for n in (0,)},
        "1.png": "1.0",
        "2.png": "0.4",
        "3.png": "0.6",
        "4.png": "0.8",
        "broken.jpg": "",
        "new.png": "0.0",
    }


def test_only_what_failed_is_tried_again(run, folder, read):
    assert score(run).exit_code == 1
    read.clear()
    (folder / "broken.jpg").write_bytes(png(1))
    (folder / "new.png").write_bytes(png(0))
    assert score(run, "--retry-failed").exit_code == 0
    assert read == ["broken.jpg"]
    assert table()["broken.jpg"]["score"] == "1.0"
    assert "new.png" not in table()
    assert score(run, "--retry-failed", "--resume").exit_code == 0
    assert read == ["broken.jpg", "new.png"]


def test_scores_of_another_model_are_not_mixed(run, folder, tmp_path):
    assert score(run).exit_code == 1
    result = run("score", "photos", "--model", "bundled-tiny", "-o", "f.csv", "--resume")
    assert (result.exit_code, "holds scores by brightness" in result.stderr) == (2, True)
    assert "--model brightness, which has its weights" in result.stderr
    assert run("score", "photos/1.png", "--model", "brightness", "-o", "f.csv", "--overwrite").exit_code == 0
    assert set(table()) == {"1.png"}


def test_scores_of_the_same_weights_under_an_earlier_name_are_gone_on_with(run, folder, read):
    assert score(run, "-n", "3", "--resume").exit_code == 0
    Path("f.csv").write_text(Path("f.csv").read_text().replace("brightness:", "earlier-name:"))
    read.clear()
    assert score(run, "--resume").exit_code == 1
    assert sorted(read) == ["3.png", "4.png", "broken.jpg"]
    models = {row["scorer_id"].partition(":")[0] for name, row in table().items() if name != "broken.jpg"}
    assert models == {"brightness", "earlier-name"}


@pytest.mark.parametrize(
    "words",
    [
        ["--resume"],
        ["--retry-failed"],
        ["--overwrite", "--format", "csv", "-o", "-"],
        ["--resume", "--overwrite", "-o", "g.csv"],
        ["--retry-failed", "-o", "g.csv"],
        ["--list", "photos"],
    ],
    ids=" ".join,
)
def test_what_cannot_be(run, folder, words):
    result = run("score", "photos", "--model", "brightness", *words)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.stderr


def test_a_choice_is_made_at_the_end_and_leaves_nothing_beside_it(run, folder, read):
    result = score(run, "--worst", "20%")
    assert result.exit_code == 1, result.stderr
    assert set(table()) == {"0.png", "broken.jpg"}
    assert [path.name for path in Path().iterdir() if "f.csv" in path.name] == ["f.csv"]
    assert "nothing can be added" in score(run, "--worst", "20%", "--resume").stderr


def test_objects_are_known_by_their_etag(run, system, monkeypatch):
    for number in range(3):
        system.put(f"in/{number}.png", png(number / 2))
    words = ["score", f"s3://{system.name}/in/", "--model", "brightness", "-o", "f.parquet", "--resume", "--json"]
    assert json.loads(run(*words).stdout)["rows"] == 3
    system.put("in/1.png", png(1))
    assert json.loads(run(*words).stdout)["rows"] == 1
    assert json.loads(run(*words).stdout)["rows"] == 0
    assert run("validate", "f.parquet").exit_code == 0


SLOW = """
import sys, time
from dpiqa.models.brightness import BrightnessScorer
score = BrightnessScorer.score
def slow(self, pixels):
    time.sleep(0.2)
    return score(self, pixels)
BrightnessScorer.score = slow
from dpiqa.cli.__main__ import main
main()
"""


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["interrupted", "killed"])
def test_a_run_that_ends_early_is_gone_on_with(run, tmp_path, kind, number, read):
    photos = tmp_path / "photos"
    photos.mkdir()
    for n in range(200):
        (photos / f"{n:03}.png").write_bytes(png(n / 200))
    words = ["score", "photos", "--model", "brightness", "-o", f"f.{kind}"]
    grown = Path(f"f.{kind}.unfinished.jsonl" if kind == "parquet" else f"f.{kind}")
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, *words],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "DPIQA_BATCH_SIZE": "4"},
    )
    while not (grown.exists() and grown.read_bytes().count(b"\n") > 10):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    process.send_signal(number)
    said = process.communicate(timeout=30)[1]
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert f"Go on with: dpiqa score photos --model brightness --output f.{kind} --resume" in said
        assert run("validate", f"f.{kind}").exit_code == 0
    result = run(*words, "--resume")
    assert result.exit_code == 0, result.stderr
    assert 0 < len(read) < 195
    valid = json.loads(run("validate", f"f.{kind}", "--json").stdout)
    assert valid["rows"] == 200
