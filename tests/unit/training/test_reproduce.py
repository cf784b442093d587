"""The command that a card names: read as a command line is, it gives the configuration that held."""

import json
import shlex

import pytest
from support.training import STUDENT, TEACHER, VAE

from dpiqa.models.cards import find_card, sha256_of
from dpiqa.training.config.command import reproducing_command
from dpiqa.training.config.file import resolve
from dpiqa.training.config.kinds import DiffusionRun, PromptIQARun, StudentRun, TeacherRun, VaeRun
from dpiqa.training.runs.publish import origin, origins

SET = 'data.sets=[{name = "csv", path = "labels.csv"}]'


def settings_of(words):
    """What the command line makes of --dataset, --data, --out, --name and --set."""
    given = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    names = [words[i + 1] for i, word in enumerate(words) if word == "--dataset"]
    places = [words[i + 1] for i, word in enumerate(words) if word == "--data"]
    sets = [f"{{name = {json.dumps(n)}, path = {json.dumps(p)}}}" for n, p in zip(names, places, strict=True)]
    return given + ([f"data.sets=[{', '.join(sets)}]"] if sets else [])


def again(config):
    """Resolve the command of a configuration; gives its words too."""
    words = shlex.split(reproducing_command(config))
    preset = words[words.index("--preset") + 1] if "--preset" in words else None
    return words, resolve(type(config), preset=preset, overrides=settings_of(words))


def decisive(config):
    document = config.model_dump(mode="json")
    return document | {"output": document["output"]["half"]}


@pytest.mark.parametrize(
    ("schema", "preset", "overrides"),
    [
        (StudentRun, "bundled-student", []),
        (StudentRun, "bundled-student", ["plan.seed=3", "plan.epochs=40", "output.half=false"]),
        (StudentRun, "bundled-student-distilled", ["teacher=mine", "loss.distorted.kinds=['jpeg','haze']"]),
        (StudentRun, "bundled-student-distilled", ['teacher={model="mine",precision="bfloat16"}']),
        (StudentRun, "bundled-student", ["plan.crop=", 'plan.slow={"conv.a" = 0.5}']),
        (StudentRun, "finetune-student", ["model.start=bundled-student", "plan.rate=1e-05"]),
        (TeacherRun, "bundled-teacher", ["model.vae=runs/vae/vae.safetensors", "plan.seed=2"]),
        (VaeRun, "bundled-vae", ["model.architecture.channels=[4, 8]"]),
        (DiffusionRun, "bundled-diffusion", ["loss.near_share=0.5", "model.vae=mine/vae.safetensors"]),
        (PromptIQARun, "finetune-promptiqa", ["model.start=mine", "validation_pairs=4"]),
    ],
)
def test_the_command_gives_the_configuration_and_names_its_preset(schema, preset, overrides):
    config = resolve(schema, preset=preset, overrides=[*overrides, SET])
    words, found = again(config)
    assert words[:3] == ["dpiqa", "train", config.kind]
    assert words[words.index("--preset") + 1] == preset
    assert decisive(found) == decisive(config)
    assert f"plan.seed={config.plan.seed}" in words


@pytest.mark.parametrize(("schema", "text"), [(StudentRun, STUDENT), (TeacherRun, TEACHER), (VaeRun, VAE)])
def test_a_file_that_nobody_else_has_is_said_in_full(schema, text, tmp_path):
    (tmp_path / "run.toml").write_text(text)
    config = resolve(schema, file=tmp_path / "run.toml", overrides=[SET])
    words, found = again(config)
    assert "--config" not in words
    assert decisive(found) == decisive(config)


def test_splits_of_sets_are_said():
    sets = 'data.sets=[{name="spaq",path="spaq",split="random",split_seed=4},{name="clive",path="clive"}]'
    config = resolve(StudentRun, preset="bundled-student", overrides=[sets])
    assert again(config)[1].data.sets == config.data.sets


def test_no_folder_of_anybodys_is_said():
    given = ['data.sets=[{name = "csv", path = "/home/ann/secret/labels.csv"}]', "output.folder=/home/ann/runs/one"]
    given += ["model.vae=/home/ann/vae.safetensors", "model.embeddings=~/words.safetensors", "data.cache=/home/ann/c"]
    words, found = again(resolve(TeacherRun, preset="bundled-teacher", overrides=given))
    assert "ann" not in " ".join(words)
    assert (str(found.data.sets[0].path), str(found.model.vae)) == ("labels.csv", "vae.safetensors")
    assert str(found.model.embeddings) == "words.safetensors"
    assert words[words.index("--out") + 1] == "one"


def test_origins_are_names_and_digests(tmp_path):
    card = find_card("bundled-student")
    file = tmp_path / "vae.safetensors"
    file.write_bytes(b"weights")
    digest = sha256_of(file)
    assert origins({"teacher": card, "vae": file, "guide": None}) == {
        "teacher": {"model": card.name, "sha256": card.sha256, "command": card.figures["training"]["command"]},
        "vae": {"file": "vae.safetensors", "sha256": digest},
    }


@pytest.mark.parametrize(
    ("record", "command"),
    [
        ('{"sha256": "%s", "command": "dpiqa train vae"}', "dpiqa train vae"),
        ('{"sha256": "of others", "command": "dpiqa train vae"}', None),
        ('{"command": "dpiqa train vae"}', None),
        ("[1]", None),
        ("no JSON", None),
    ],
)
def test_a_record_counts_only_for_the_bytes_it_was_written_for(tmp_path, record, command):
    file = tmp_path / "vae.safetensors"
    file.write_bytes(b"weights")
    file.with_suffix(".json").write_text(record.replace("%s", sha256_of(file)))
    assert origin(file).get("command") == command
