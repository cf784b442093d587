"""The command that a card names: read as a command line is, it gives the configuration that held."""

import json
import shlex

import pytest
from support.training import STAGE_TEACHER, STUDENT, TEACHER, VAE

from dpiqa.models.cards import find_card
from dpiqa.training.config.command import reproducing_command
from dpiqa.training.config.file import resolve
from dpiqa.training.config.kinds import DiffusionRun, PromptIQARun, StudentRun, TeacherRun, VaeRun

SELF_CONTAINED = [(StudentRun, STUDENT), (TeacherRun, TEACHER), (TeacherRun, STAGE_TEACHER), (VaeRun, VAE)]
SET = 'data.sets=[{name = "csv", path = "labels.csv"}]'


def settings_of(words):
    """The overrides that the command line makes of --dataset, --data, --out, --name and --set."""
    changes = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    names = [words[i + 1] for i, word in enumerate(words) if word == "--dataset"]
    places = [words[i + 1] for i, word in enumerate(words) if word == "--data"]
    sets = [f"{{name = {json.dumps(n)}, path = {json.dumps(p)}}}" for n, p in zip(names, places, strict=True)]
    return changes + ([f"data.sets=[{', '.join(sets)}]"] if sets else [])


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
        (StudentRun, "bundled-tiny", []),
        (StudentRun, "bundled-tiny", ["plan.seed=3", "plan.epochs=40", "output.half=false"]),
        (StudentRun, "bundled-tiny-distilled", ["teacher=mine", "loss.distorted.kinds=['jpeg','haze']"]),
        (StudentRun, "bundled-tiny-distilled", ['teacher={model="mine",precision="bfloat16"}']),
        (StudentRun, "bundled-tiny", ["plan.crop=", 'plan.slow={"conv.a" = 0.5}']),
        (StudentRun, "bundled-student-order", ["model.start=mine", "loss.distorted.shrink=3"]),
        (StudentRun, "finetune-student", ["model.start=bundled-student", "plan.rate=1e-05"]),
        (TeacherRun, "bundled-teacher", ["model.vae=runs/vae/vae.safetensors", "plan.seed=2"]),
        (TeacherRun, "lite-teacher", ["model.trunk_from=mine", "model.head_from=mine"]),
        (VaeRun, "bundled-vae", ["model.architecture.channels=[4, 8]"]),
        (DiffusionRun, "bundled-diffusion", ["loss.near_share=0.5", "model.vae=mine/vae.safetensors"]),
        (PromptIQARun, "finetune-promptiqa", ["model.start=mine", "validation_pairs=4"]),
    ],
)
def test_the_command_gives_the_configuration_and_names_its_preset(schema, preset, overrides):
    config = resolve(schema, preset=preset, overrides=[*overrides, SET])
    words, repeated = again(config)
    assert words[:3] == ["dpiqa", "train", config.kind]
    assert words[words.index("--preset") + 1] == preset
    assert decisive(repeated) == decisive(config)
    assert f"plan.seed={config.plan.seed}" in words


@pytest.mark.parametrize(("schema", "text"), SELF_CONTAINED)
def test_a_file_that_nobody_else_has_is_said_in_full(schema, text, tmp_path):
    (tmp_path / "run.toml").write_text(text)
    config = resolve(schema, file=tmp_path / "run.toml", overrides=[SET])
    words, repeated = again(config)
    assert "--config" not in words
    assert decisive(repeated) == decisive(config)


def test_splits_of_sets_are_said():
    sets = 'data.sets=[{name="spaq",path="spaq",split="random",split_seed=4},{name="clive",path="clive"}]'
    config = resolve(StudentRun, preset="bundled-tiny", overrides=[sets])
    assert again(config)[1].data.sets == config.data.sets


def test_no_folder_of_anybodys_is_said():
    overrides = ['data.sets=[{name = "csv", path = "/home/ann/secret/labels.csv"}]', "output.folder=/home/ann/runs/one"]
    overrides += [
        "model.vae=/home/ann/vae.safetensors",
        "model.embeddings=~/words.safetensors",
        "data.cache=/home/ann/c",
    ]
    words, repeated = again(resolve(TeacherRun, preset="bundled-teacher", overrides=overrides))
    assert "ann" not in " ".join(words)
    assert (str(repeated.data.sets[0].path), str(repeated.model.vae)) == ("labels.csv", "vae.safetensors")
    assert str(repeated.model.embeddings) == "words.safetensors"
    assert words[words.index("--out") + 1] == "one"


def older(stated, card):
    """Leave out the keys that the card does not know."""
    return {key: older(stated[key], value) if isinstance(value, dict) else stated[key] for key, value in card.items()}


@pytest.mark.parametrize(
    ("name", "schema"), [("bundled-student", StudentRun), ("bundled-tiny", StudentRun), ("bundled-teacher", TeacherRun)]
)
def test_the_bundled_cards_commands_give_the_configurations_they_state(name, schema):
    training = find_card(name).figures["training"]
    words = shlex.split(training["command"])
    config = resolve(schema, preset=words[words.index("--preset") + 1], overrides=settings_of(words))
    stated = config.model_dump(mode="json")
    for table, values in {**training["identity"], "plan": training["plan"]}.items():
        if table in {"model", "loss", "plan"}:  # keys that are newer than the card have their defaults
            assert older(stated[table], values) == values
