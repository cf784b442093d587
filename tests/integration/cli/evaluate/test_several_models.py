"""`dpiqa evaluate` of several models, of routing, and what --card leaves in cards: with tiny networks of chance."""

import json
import shutil

import pytest
import torch
from support.photos import jpeg, png
from support.tiny_networks import TINY_STUDENT, TINY_TEACHER

from dpiqa.models.student import build_student
from dpiqa.models.teacher import build_teacher
from dpiqa.training.runs.publish import export_model

PROFILE = """
name = "near"
version = 1
student = "run-0"
teacher = "judge"
max_escalated_share = 0.5
[[cutoffs]]
at = 0.45
margin = 5.0
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two students of different seeds and a teacher, in a folder."""
    folder = tmp_path_factory.mktemp("made")
    torch.set_num_threads(1)
    for seed in range(2):
        torch.manual_seed(seed)
        export_model(build_student(TINY_STUDENT).eval(), TINY_STUDENT, f"run-{seed}", folder, licence="Apache-2.0")
    export_model(build_teacher(TINY_TEACHER).eval(), TINY_TEACHER, "judge", folder, licence="Apache-2.0")
    return folder


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    """A folder with models, a profile and ten labelled pictures of two subsets."""
    shutil.copytree(made, tmp_path / "models")
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "near.toml").write_text(PROFILE)
    lines = ["image,mos,split,subset"]
    for number in range(10):
        (tmp_path / f"{number}.png").write_bytes(png(number / 10))
        lines.append(f"{number}.png,{number / 10},val,{'odd' if number % 2 else 'even'}")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    for name, value in {"MODELS_DIR": "models", "PROFILES_DIR": "profiles"}.items():
        monkeypatch.setenv(f"DPIQA_{name}", str(tmp_path / value))
    monkeypatch.setenv("DPIQA_THREADS", "1")
    monkeypatch.setenv("DPIQA_DEVICE", "cpu")
    return tmp_path


def on_labels(folder):
    return ("--dataset", "csv", "--data", folder / "labels.csv", "--split", "val")


def figures(folder, name):
    return json.loads((folder / "models" / f"{name}.json").read_text())["figures"]


def digest(folder, name):
    return json.loads((folder / "models" / f"{name}.json").read_text())["sha256"]


def test_runs_with_other_seeds_have_a_mean_and_the_first_ones_card_says_so(run, folder):
    words = ("evaluate", "compare", "run-0", "run-1", "--seeds", *on_labels(folder), "--called", "mine")
    result = run(*words, "--json", "--card", folder / "models", "--output", folder / "report")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert (document["data"], list(document["parts"])) == ("mine val", ["all", "even", "odd"])
    pooled = document["parts"]["all"]
    both = [pooled["figures"][name]["srcc"]["value"] for name in ("run-0", "run-1")]
    assert pooled["spread"]["srcc"]["mean"] == pytest.approx(sum(both) / 2, abs=1e-3)
    assert pooled["differences"]["run-1"]["srcc"]["value"] == pytest.approx(both[1] - both[0], abs=1e-3)
    assert {file.name for file in (folder / "report").iterdir()} == {
        "comparison.md",
        "comparison.json",
        "comparison.png",
    }
    section = figures(folder, "run-0")["seeds on mine val"]
    assert section["parts"]["all"]["spread"] == pooled["spread"]
    assert section["weights"] == {name: digest(folder, name) for name in ("run-0", "run-1")}
    expected = "dpiqa evaluate compare run-0 run-1 --dataset csv --data labels.csv --called mine --split val --seeds"
    assert section["command"] == expected
    assert figures(folder, "run-1") == {}


def test_two_models_are_compared_in_a_table(run, folder):
    result = run("evaluate", "compare", "run-0", "judge", *on_labels(folder))
    assert result.exit_code == 0, result.stderr
    assert "differences from run-0" in result.stdout
    assert "over the runs" not in result.stdout


def test_routing_ends_with_a_verdict_and_both_cards_hold_it(run, folder):
    words = ("evaluate", "routing", "near", *on_labels(folder))
    result = run(*words, "--card", folder / "models", "--output", folder / "report")
    assert result.exit_code == 0, result.stderr
    assert "Routing by near@1" in result.stdout.splitlines()[-1]
    assert {file.name for file in (folder / "report").iterdir()} == {"routing.md", "routing.json", "routing.png"}
    name = "routing on csv val, profile near@1"
    section = figures(folder, "run-0")[name]
    assert section == figures(folder, "judge")[name]
    assert section["escalated_share"]["value"] == 0.5
    assert section["n"] == 10
    assert str(folder) not in json.dumps(section)
    assert json.loads(run(*words, "--json").stdout)["verdict"] == section["verdict"]


def test_criteria_of_escalation_are_compared_and_known_scores_are_not_computed_again(run, folder):
    words = ("evaluate", "escalation", "near", "--second", "run-1", *on_labels(folder))
    result = run(*words, "--views", "--output", folder / "report")
    assert result.exit_code == 0, result.stderr
    for criterion in ("distance to the cut-off", "disagreement of two students", "spread by distance", "best possible"):
        assert criterion in (folder / "report" / "escalation.md").read_text()
    result = run(*words, "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert (document["n"], document["models"]) == (10, {"student": "run-0", "teacher": "judge", "second": "run-1"})
    assert "spread over views" not in document["gains"]

    run("evaluate", "scores", "judge", *on_labels(folder), "--output", folder / "judged")
    (folder / "models" / "judge.safetensors").unlink()
    known = json.loads(run(*words, "--scores", f"judge={folder / 'judged' / 'scores.csv'}", "--json").stdout)
    assert known == document


def test_scores_that_do_not_fit_are_refused(run, folder):
    words = ("evaluate", "escalation", "near", *on_labels(folder), "--scores")
    (folder / "other.csv").write_text("image,score\nelse.png,0.5\n")
    for scores, says in (
        ("nobody=other.csv", "names no model of this comparison"),
        ("judge", "names no model of this comparison"),
        (f"judge={folder / 'missing.csv'}", "cannot be read as scores"),
        (f"judge={folder / 'other.csv'}", "has scores of none of the 10 images"),
    ):
        result = run(*words, scores)
        assert (result.exit_code, says in result.stderr) == (2, True), result.stderr


def test_figures_of_other_weights_are_told_from_todays(run, folder):
    run("evaluate", "routing", "near", *on_labels(folder), "--card", folder / "models")
    run("evaluate", "scores", "run-0", *on_labels(folder), "--card", folder / "models")
    assert json.loads(run("models", "show", "run-0", "--json").stdout)["stale_figures"] == []
    card = json.loads((folder / "models" / "judge.json").read_text()) | {"sha256": "0" * 64}
    (folder / "models" / "judge.json").write_text(json.dumps(card))
    result = run("models", "show", "run-0")
    assert "measured with other than the current weights: routing on csv val, profile near@1" in result.stderr
    assert "csv val" in figures(folder, "run-0")


def test_the_distortion_sweep_goes_into_the_card(run, folder):
    (folder / "photos").mkdir()
    (folder / "photos" / "0.jpg").write_bytes(jpeg(0.3))
    words = ("--data", folder / "photos", "--kind", "haze", "--card", folder / "models")
    result = run("evaluate", "distortions", "run-0", *words)
    assert result.exit_code == 0, result.stderr
    section = figures(folder, "run-0")["distortions"]
    assert (section["kinds"], section["pictures"], len(section["means_by_strength"]["haze"])) == (1, 1, 6)
    assert len([*section["falling"], *section["rising_at_strengths"], *section["flat"]]) == 1
    assert section["command"] == "dpiqa evaluate distortions run-0 --data photos --kind haze"


def test_a_card_that_is_not_there_is_refused_before_anything_is_measured(run, folder):
    result = run("evaluate", "scores", "run-0", *on_labels(folder), "--card", folder / "nowhere")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "the card of run-0 is not in" in result.stderr
