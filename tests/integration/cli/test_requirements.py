"""`dpiqa requirements` with a small PromptIQA network, real files, real objects and a real database."""

import json

import pytest
from support.photos import jpeg
from support.promptiqa import write_tiny_promptiqa

SCORES = (0.1, 0.3, 0.5, 0.7, 0.9)


@pytest.fixture
def models(monkeypatch, tmp_path):
    """A folder of models with `tiny`; gives its card."""
    folder = tmp_path / "models"
    monkeypatch.setenv("DPIQA_MODELS_DIR", str(folder))
    return write_tiny_promptiqa(folder, "tiny")


@pytest.fixture
def pairs(tmp_path):
    """A list of five pairs beside its images."""
    lines = ["path,score"]
    for number, score in enumerate(SCORES):
        (tmp_path / f"{number}.jpg").write_bytes(jpeg(score, seed=number))
        lines.append(f"{number}.jpg,{score}")
    file = tmp_path / "pairs.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


def create(run, *words, name="portraits", force=True):
    """Random weights rank at random: forced, unless the test says otherwise."""
    forced = ["--force"] if force else []
    return run("requirements", "create", name, "--pairs", "pairs.csv", "--model", "tiny", *forced, *words)


def test_created_listed_and_shown(run, system, models, pairs):
    created = create(run, "--direction", "lower is better", "--json")
    assert created.exit_code == 0, created.stderr
    document = json.loads(created.stdout)
    assert (document["id"], document["state"], document["direction"]) == ("portraits@1", "ready", "lower is better")
    assert [pair["score"] for pair in document["pairs"]] == list(SCORES)
    assert all(0 <= pair["leave_one_out"] <= 1 and len(pair["sha256"]) == 64 for pair in document["pairs"])
    (check,) = document["checks"]
    assert check["scorer_id"] == models.scorer_id
    assert -1 <= check["leave_one_out_srcc"] <= 1
    errors = [abs(pair["score"] - pair["leave_one_out"]) for pair in document["pairs"]]
    assert check["leave_one_out_mae"] == pytest.approx(sum(errors) / 5)
    assert json.loads(run("requirements", "show", "portraits@1", "--json").stdout) == document
    (listed,) = json.loads(run("requirements", "list", "--json").stdout)
    assert listed == {name: value for name, value in document.items() if name != "pairs"}


def test_people_see_direction_and_stability(run, system, models, pairs):
    create(run, "--direction", "lower is better")
    for words in (["show", "portraits"], ["list"]):
        result = run("requirements", *words).stdout
        assert "lower is better" in result
        assert models.scorer_id in result
    assert "leave-one-out" in run("requirements", "show", "portraits").stdout


def test_the_same_again_is_the_same_version(run, system, models, pairs):
    first, again = (json.loads(create(run, "--json").stdout) for _ in range(2))
    assert first == again
    other = json.loads(create(run, "--json", "--direction", "lower is better").stdout)
    assert (other["id"], json.loads(run("requirements", "show", "portraits", "--json").stdout)["id"]) == (
        "portraits@2",
        "portraits@2",
    )


def test_pairs_in_a_bucket(run, system, models, pairs):
    for number, score in enumerate(SCORES):
        system.put(f"isp/{number}.jpg", jpeg(score, seed=number))
    lines = [f"s3://{system.name}/isp/{number}.jpg,{score}" for number, score in enumerate(SCORES)]
    pairs.write_text("path,score\n" + "\n".join(lines))
    document = json.loads(create(run, "--json").stdout)
    assert document["pairs"][0]["path"] == f"s3://{system.name}/isp/0.jpg"


def test_an_exchanged_model_is_given_prompt_features(run, system, models, pairs, tmp_path):
    create(run)
    exchanged = write_tiny_promptiqa(tmp_path / "models", "tiny", seed=1)
    result = run("requirements", "prepare", "portraits", "--force", "--json")
    assert result.exit_code == 0, result.stderr
    checks = json.loads(result.stdout)["checks"]
    assert [check["scorer_id"] for check in checks] == [exchanged.scorer_id, models.scorer_id]
    (tmp_path / "3.jpg").write_bytes(jpeg(0.2))
    assert run("requirements", "prepare", "portraits").exit_code == 0  # nothing lacks: nothing is read
    write_tiny_promptiqa(tmp_path / "models", "tiny", seed=2)
    refused = run("requirements", "prepare", "portraits")
    assert (refused.exit_code, "3.jpg" in refused.stderr) == (2, True)


def test_contradictions_need_force(run, system, models, pairs):
    text = pairs.read_text() + "0.jpg,0.95\n"
    pairs.write_text(text)
    refused = create(run, force=False)
    assert (refused.exit_code, "contradict each other" in refused.stderr, "--force" in refused.stderr) == (
        2,
        True,
        True,
    )
    assert json.loads(run("requirements", "list", "--json").stdout) == []
    forced = json.loads(create(run, "--json").stdout)
    assert any(
        "0.jpg (0.1)" in sentence and "the same image" in sentence for sentence in forced["checks"][0]["contradictions"]
    )
    assert "the same image" in run("requirements", "show", "portraits").stdout


@pytest.mark.parametrize(
    ("change", "says", "code"),
    [
        ("path,score\n0.jpg,1\n", "5 to 200 image-score pairs, not 1", 2),
        ("path,score\n0.jpg,high\n", "line 2: 'high' is not a valid score", 2),
        ("path,score\n" + "".join(f"{n}.jpg,0.5\n" for n in range(5)), "too close to tell good from bad", 2),
        ("path,score\n" + "".join(f"{n}.jpg,{n / 9}\n" for n in range(6)), "5.jpg: there is no such file", 2),
    ],
)
def test_what_is_wrong_is_one_line_with_its_hint(run, system, models, pairs, change, says, code):
    pairs.write_text(change)
    result = create(run)
    assert (result.exit_code, says in result.stderr, "hint:" in result.stderr) == (code, True, True), result.stderr


def test_other_models_and_names_are_refused(run, system, models, pairs):
    result = run("requirements", "create", "portraits", "--pairs", "pairs.csv", "--model", "brightness")
    assert (result.exit_code, "kind pixels" in result.stderr) == (2, True)
    assert create(run, name="Por:traits").exit_code == 2
    assert run("requirements", "show", "portraits").exit_code == 4
    assert run("requirements", "create", "a", "--pairs", "nowhere.csv", "--model", "tiny").exit_code == 4
