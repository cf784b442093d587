import json

import pytest
from support.promptiqa import TINY
from support.training import make_set


@pytest.fixture
def words(tmp_path):
    """A command line that trains for two updates."""
    sizes = ", ".join(f"{name} = {json.dumps(value)}" for name, value in TINY.model_dump(mode="json").items())
    config = tmp_path / "run.toml"
    config.write_text(
        f"""
validation_pairs = 4
data = {{ cache = "{tmp_path / "cache"}" }}
model = {{ architecture = {{ {sizes} }} }}
plan = {{ epochs = 1, batch = 6, precision = "float32" }}
output = {{ bootstrap_draws = 20 }}
"""
    )
    labels = make_set(tmp_path / "set", count=18, size=32)
    where = ("--out", tmp_path / "out", "--set", f"output.models={tmp_path / 'models'}", "--name", "made")
    return [
        str(word) for word in ("train", "promptiqa", "--config", config, "--dataset", "csv", "--data", labels, *where)
    ]


def test_the_command_makes_a_model_and_says_what_it_is(run, words, tmp_path):
    done = run(*words, "--json")
    assert done.exit_code == 0, done.stderr
    card = json.loads(done.stdout)
    assert (card["name"], card["kind"]) == ("made", "promptiqa")
    assert card["preprocessing"]["filter"] == "cubic-opencv"
    assert (tmp_path / "models" / "made.safetensors").is_file()


def test_the_command_line_changes_the_file(run, words):
    result = run(*words, "--set", "plan.epochs=7", "--print-config")
    assert "epochs = 7" in result.stdout
    assert "validation_pairs = 4" in result.stdout


def test_a_wrong_key_is_corrected(run, words):
    refused = run(*words, "--set", "loss.fliping=0.2")
    assert refused.exit_code == 2
    assert "did you mean flipping?" in refused.stderr
