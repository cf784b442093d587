"""From labelled pictures to a model that scores: autoencoder, teacher, student, evaluation, by `dpiqa`."""

import json
import shlex
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.training import STAGE_STUDENT, STUDENT, TEACHER, VAE, make_set
from typer.testing import CliRunner

from dpiqa.cli.main import app
from dpiqa.models.cards import sha256_of
from dpiqa.training.loop.log import read_log

pytestmark = pytest.mark.timeout(900)  # a slow machine is not a failure


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a data set, settings, and everything that the commands make."""
    folder = tmp_path_factory.mktemp("chain")
    make_set(folder / "set")
    for name, text in {"vae": VAE, "teacher": TEACHER, "student": STUDENT, "stages": STAGE_STUDENT}.items():
        (folder / f"{name}.toml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def command(folder):
    """Run `dpiqa ...` with the folder's models; returns what it printed on stdout and stderr."""

    def run(*words, code=0):
        environment = {
            "DPIQA_MODELS_DIR": str(folder / "models"),
            "DPIQA_HOME": str(folder / "home"),
            "DPIQA_THREADS": "1",
            "DPIQA_DEVICE": "cpu",
            "DPIQA_DECODE_PROCESSES": "1",
            "COLUMNS": "200",
        }
        done = CliRunner().invoke(app, list(map(str, words)), env=environment)
        assert done.exit_code == code, (done.stderr, done.exception)
        return done

    return run


@pytest.fixture(scope="module")
def train(folder, command):
    """Run one `dpiqa train ...` on the data set into `runs/NAME`."""
    (folder / "models").mkdir()

    def run(kind, name, *settings, config=None):
        words = [
            "--config",
            config or folder / f"{kind}.toml",
            "--dataset",
            "csv",
            "--data",
            folder / "set" / "labels.csv",
        ]
        words += ["--out", folder / "runs" / name, "--json"] + ([] if kind == "vae" else ["--name", name])
        changes = ("output.log_every_steps=2", "output.bootstrap_draws=20", f"data.cache={folder / 'cache'}", *settings)
        return json.loads(
            command("train", kind, *words, *(word for change in changes for word in ("--set", change))).stdout
        )

    return run


@pytest.fixture(scope="module")
def vae(train):
    return train("vae", "vae")["file"]


@pytest.fixture(scope="module")
def teacher(train, vae):
    return train("teacher", "tiny-teacher", f"model.vae={vae}")


@pytest.fixture(scope="module")
def student(train, teacher):
    return train("student", "tiny-student", f"teacher={teacher['name']}", "loss.teacher_score=0.5")


def losses(folder, name):
    return [line["loss"] for line in read_log(folder / "runs" / name) if "loss" in line]


def test_every_loss_falls(folder, vae, teacher, student):
    for name in ("vae", "tiny-teacher", "tiny-student"):
        course = losses(folder, name)
        assert len(course) == 6
        assert course[-1] < course[0]
    terms = [line for line in read_log(folder / "runs" / "tiny-student") if "loss" in line][-1]
    assert terms["loss"] == pytest.approx(
        sum(terms[name] for name in ("squared", "ranking", "map", "teacher_score")), rel=1e-4
    )


def test_the_card_says_how_the_model_came_about(folder, teacher, student):
    history = student["figures"]["training"]
    assert history["identity"]["sources"]["teacher"].startswith("tiny-teacher:")
    assert len(history["identity"]["labels_sha256"]) == 64
    assert history["plan"]["epochs"] == 6
    assert history["updates"] == 12
    assert student["figures"]["csv val"]["n"] == 8
    (reference,) = student["references"]  # what its scores mean: by the images it was chosen on
    assert (reference["n"], reference["population"]) == (8, "csv val")
    assert reference["scorer_id"].startswith(f"tiny-student:{student['sha256'][:12]}:")
    assert student["trained_on"] == "csv: 16 images; their terms are not stated"
    assert history["run"] != teacher["figures"]["training"]["run"]


def test_the_card_names_the_command_and_the_digests_of_all_it_was_made_from(folder, vae, teacher, student):
    training = student["figures"]["training"]
    origin = {
        "model": "tiny-teacher",
        "sha256": teacher["sha256"],
        "command": teacher["figures"]["training"]["command"],
        "made_from": teacher["figures"]["training"]["made_from"],
    }
    assert training["made_from"] == {"teacher": origin}
    assert training["weights"] == student["figures"]["csv val"]["weights"] == {"tiny-student": student["sha256"]}
    source = teacher["figures"]["training"]["made_from"]["vae"]
    assert (source["file"], source["sha256"]) == ("vae.safetensors", sha256_of(Path(vae)))
    assert source["command"].startswith("dpiqa train vae --dataset csv --data labels.csv --out vae ")
    for card in (teacher, student):
        assert str(folder) not in json.dumps(card)  # nobody's folders


def test_the_command_of_the_card_makes_the_same_weights(folder, command, student, monkeypatch):
    """In the folder that holds what the card calls by name alone, and under another name."""
    words = shlex.split(student["figures"]["training"]["command"])
    words[words.index("--name") + 1] = "twin"
    words[words.index("--out") + 1] = str(folder / "runs" / "twin")
    monkeypatch.chdir(folder / "set")
    command(*words[1:], "--set", f"data.cache={folder / 'cache'}", "--set", "output.bootstrap_draws=20")
    twin = json.loads(command("models", "show", "twin", "--json").stdout)
    assert twin["sha256"] == student["sha256"]


def test_the_models_are_listed_evaluated_and_score_files(folder, command, student):
    listed = {card["name"] for card in json.loads(command("models", "list", "--json").stdout)}
    assert {"tiny-teacher", "tiny-student"} <= listed
    picture = folder / "set" / "0.png"
    scored = json.loads(command("score", picture, "--model", "tiny-student", "--json").stdout)
    rows = scored["images"] if isinstance(scored, dict) else scored
    assert 0 < rows[0]["score"] < 1.5
    words = ("--dataset", "csv", "--data", folder / "set" / "labels.csv", "--split", "val", "--json")
    measured = command("evaluate", "scores", "tiny-student", *words).stdout
    assert str(student["figures"]["csv val"]["rmse"]) in measured


def test_the_same_command_again_changes_nothing_and_another_is_refused(folder, train, command, student):
    weights = folder / "models" / "tiny-student.safetensors"
    before = weights.read_bytes()
    again = train("student", "tiny-student", "teacher=tiny-teacher", "loss.teacher_score=0.5")
    assert (again["sha256"], weights.read_bytes()) == (student["sha256"], before)
    words = ("--dataset", "csv", "--data", folder / "set" / "labels.csv", "--set", f"data.cache={folder / 'cache'}")
    config = ("train", "student", "--config", folder / "student.toml", *words)
    refused = command(*config, "--out", folder / "runs" / "other", "--name", "tiny-student", code=2)
    assert "there is already a model called tiny-student" in refused.stderr
    refused = command(*config, "--out", folder / "runs" / "tiny-student", "--name", "another", code=78)
    assert "holds a run with another" in refused.stderr


def test_fine_tuning_is_the_same_command(folder, train, student, tmp_path):
    (tmp_path / "tune.toml").write_text('preset = "finetune-student"\n')
    settings = ("model.start=tiny-student", "model.calibrate_on=0", "plan.batch=8", "plan.epochs=1", "plan.rate=1e-5")
    tuned = train("student", "tuned", *settings, "plan.precision=float32", config=tmp_path / "tune.toml")
    assert tuned["architecture"] == student["architecture"]
    assert tuned["figures"]["training"]["identity"]["sources"]["start"] == student["sha256"]
    start = losses(folder, "tiny-student")[0]
    assert losses(folder, "tuned")[0] < start * 25  # in the labels' deviation, 25 times a MOS' square or so
    assert tuned["sha256"] != student["sha256"]


@pytest.mark.parametrize("mode", ["lora+qfd", "adapters+qfd"])
def test_a_teacher_is_fine_tuned_in_part(train, teacher, tmp_path, mode):
    (tmp_path / "tune.toml").write_text('preset = "finetune-teacher"\n')
    settings = ("model.start=tiny-teacher", f"model.mode={mode}", "model.lora_rank=2", "plan.batch=8", "plan.epochs=1")
    tuned = train("teacher", f"tuned-{mode[:4]}", *settings, config=tmp_path / "tune.toml")
    assert tuned["architecture"] == teacher["architecture"]
    assert tuned["figures"]["csv val"]["failures"] == 0


def test_print_config_is_a_file_that_can_be_given_back(command, folder):
    words = ("train", "student", "--config", folder / "student.toml")
    printed = command(*words, "--set", "plan.epochs=9", "--print-config")
    (folder / "printed.toml").write_text(printed.stdout)
    assert command("train", "student", "--config", folder / "printed.toml", "--print-config").stdout == printed.stdout
    wrong = command(*words, "--set", "plan.epoch=9", code=2)
    assert "unknown key plan.epoch / hint: did you mean epochs?" in wrong.stderr
    assert "--dataset" in command(*words, code=2).stderr
    assert "1 data sets and 0 paths" in command(*words, "--dataset", "csv", code=2).stderr


def test_a_student_that_reads_stages_learns_its_head_then_its_stages(folder, command, train):
    stages = {"config": folder / "stages.toml"}
    resizing = "model.architecture.resize_filter=hamming", "model.architecture.enlarge_to=64"
    first = train("student", "first", "model.frozen_stages=5", "plan.crop=", "model.ridge=", *resizing, **stages)
    second = train("student", "second", "model.start=first", "model.architecture=", "model.ridge=", **stages)
    assert second["architecture"] == first["architecture"]
    assert second["figures"]["training"]["made_from"]["start"]["sha256"] == first["sha256"]
    lines = command("score", *sorted((folder / "set").glob("*.png")), "--model", "second", "--json").stdout.splitlines()
    assert len(lines) >= 24
    heads = "model.start=second", "model.frozen_stages=5", "plan.crop=", "model.architecture=", "model.ridge="
    third = train("student", "third", *heads, 'model.average=["first"]', **stages)
    assert third["figures"]["training"]["made_from"]["average first"]["sha256"] == first["sha256"]
    tensors = [load_file(folder / "models" / f"{name}.safetensors") for name in ("first", "second", "third")]
    for name in (name for name in tensors[0] if name.startswith("base_model.") and "num_batches" not in name):
        one, two, mean = (of_model[name].float() for of_model in tensors)
        torch.testing.assert_close(mean, (one + two) / 2, atol=1e-6, rtol=1e-3)  # stored with half precision
    with pytest.raises(AssertionError, match=r"bundled-student has another backbone than model\.start"):
        train("student", "fourth", *heads, 'model.average=["bundled-student"]', **stages)
    for card in (first, second, third):
        assert ":fill64-hamming-128x128-v2:" in card["references"][0]["scorer_id"]  # also where it goes on from another
        words = shlex.split(card["figures"]["training"]["command"])
        words[words.index("--data") + 1] = str(folder / "set" / "labels.csv")
        words[words.index("--name") + 1] = f"{card['name']}-again"
        words[words.index("--out") + 1] = str(folder / "runs" / f"{card['name']}-again")
        again = command(
            *words[1:], "--set", f"data.cache={folder / 'cache'}", "--set", "output.bootstrap_draws=20", "--json"
        )
        assert json.loads(again.stdout)["sha256"] == card["sha256"]
