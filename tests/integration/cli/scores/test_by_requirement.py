"""A requirement on the command line: made, scored by in this process, submitted, and asked for."""

import csv
import json

import pytest
from support.photos import jpeg
from support.promptiqa import write_tiny_promptiqa

from dpiqa.models.base import ModelCard
from dpiqa.routing import decide
from dpiqa.storage.items import Scored
from dpiqa.storage.listings import finish_listing, start_listing
from dpiqa.storage.profiles import read_profile
from dpiqa.storage.results import record
from dpiqa.types import ImageRef

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)


@pytest.fixture
def card(monkeypatch, tmp_path):
    """A user's models folder with a small PromptIQA."""
    monkeypatch.setenv("DPIQA_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setenv("DPIQA_THREADS", "1")
    return write_tiny_promptiqa(tmp_path / "models", "tiny")


@pytest.fixture
def blur(run, system, card, tmp_path):
    """The requirement blur@1, whose scores are better the lower they are."""
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "score"])
        for number, level in enumerate(LEVELS):
            (tmp_path / f"{number}.jpg").write_bytes(jpeg(level, seed=number))
            writer.writerow([f"{number}.jpg", level])
    words = ["--pairs", "pairs.csv", "--model", "tiny", "--direction", "lower is better", "--force"]
    created = run("requirements", "create", "blur", *words)
    assert created.exit_code == 0, created.stderr


def test_scored_in_this_process_under_its_own_scorer(run, blur, card):
    result = run("score", "0.jpg", "1.jpg", "4.jpg", "--requirement", "blur", "--json")
    assert result.exit_code == 0, result.stderr
    rows = json.loads(result.stdout)
    assert {row["scorer_id"] for row in rows} == {f"{card.scorer_id}:blur@1"}
    assert {row["scale"] for row in rows} == {"0-1 on the scale of the requirement blur@1: lower is better"}
    assert all(0 <= row["score"] <= 1 for row in rows)
    named = json.loads(run("score", "0.jpg", "--requirement", "blur@1", "--model", "tiny", "--json").stdout)
    assert named[0]["score"] == pytest.approx(rows[0]["score"], abs=1e-3)
    table = run("score", "0.jpg", "1.jpg", "4.jpg", "--requirement", "blur")
    assert "lower is better" in table.stderr
    worst = sorted(rows, key=lambda row: -row["score"])
    places = [table.stdout.index(row["path"]) for row in worst]
    assert places == sorted(places)


def test_several_requirements_have_a_column_each(run, blur):
    words = ["--pairs", "pairs.csv", "--model", "tiny", "--force"]
    assert run("requirements", "create", "light", *words).exit_code == 0
    result = run("score", "0.jpg", "--requirement", "blur", "--requirement", "light", "--json")
    assert result.exit_code == 0, result.stderr
    (row,) = json.loads(result.stdout)
    scales = [value for name, value in row.items() if name.endswith(".scale")]
    assert ["lower is better" in scale for scale in scales] == [True, False]
    assert run("score", "0.jpg", "-r", "blur", "-r", "blur").exit_code == 2


def test_another_precision_is_another_scorer_by_the_same_features(run, blur, card):
    result = run(
        "score", "0.jpg", "-r", "blur", "-m", "tiny", "--precision", "bfloat16", "--no-channels-last", "--json"
    )
    assert result.exit_code == 0, result.stderr
    (row,) = json.loads(result.stdout)
    assert row["scorer_id"] == card.scorer_id.replace("float32", "bfloat16+nchw:blur@1")


def test_submitted_and_asked_for_worst_first(run, blur, card, ledger, s3):
    s3.put("a.png", jpeg(0.5))
    submitted = run("submit", f"s3://{s3.name}/", "--requirement", "blur", "--json")
    assert submitted.exit_code == 0, submitted.stderr
    job = json.loads(submitted.stdout)
    assert job["profile"] == "blur-by-tiny@1"
    score_as_a_worker_would(ledger, job["id"], card)
    result = run("scores", "--requirement", "blur", "--json")
    assert result.exit_code == 0, result.stderr
    rows = json.loads(result.stdout)
    assert [row["score"] for row in rows] == [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0]
    assert {row["scale"] for row in rows} == {"0-1: lower is better"}
    assert "scores under blur-by-tiny@1: lower is better" in result.stderr
    by_job = json.loads(run("scores", "--job", job["id"], "--worst", "20%", "--json").stdout)
    assert [row["score"] for row in by_job] == [0.9, 0.8]
    best = json.loads(run("scores", "--profile", "blur-by-tiny@1", "--best", "20%", "--json").stdout)
    assert [row["score"] for row in best] == [0.0, 0.1]
    assert "lower is better" in run("lookup", "s3://photos/k0").stdout


def score_as_a_worker_would(ledger, job_id, card):
    """List ten images, and record 0.0 to 0.9 for them."""
    scorer = ModelCard.model_validate(
        card.model_dump() | {"requirement": "blur@1", "score_scale": "0-1: lower is better", "lower_is_better": True}
    )
    job = ledger.do(start_listing, job_id, 60)
    refs = [ImageRef(bucket="photos", key=f"k{n}", etag=f"e{n}") for n in range(10)]
    ids = ledger.add(job, refs)
    ledger.do(finish_listing, job)
    claims = ledger.worker_claims(ids, profile_id="blur-by-tiny@1")
    profile = ledger.do(read_profile, "blur-by-tiny@1")
    scored = [Scored(claim, int(claim.ref.key[1:]) / 10, claim.ref.etag) for claim in claims]
    ledger.do(record, claims[0].stage, profile, scorer, scored, decide=decide)


def test_doctor_knows_what_the_profile_scores_by(run, blur, monkeypatch, tmp_path):
    monkeypatch.setenv("DPIQA_PROFILES_DIR", str(tmp_path))
    for name, requirement in (("good", "blur@1"), ("bad", "blur@7")):
        student = f'{{ model = "tiny", requirement = "{requirement}" }}'
        (tmp_path / f"{name}.toml").write_text(f'name = "{name}"\nversion = 1\nstudent = {student}\n')
    by_profile = {}
    for name in ("good", "bad"):
        monkeypatch.setenv("DPIQA_PROFILE", name)
        result = json.loads(run("doctor", "--json").stdout)
        by_profile[name] = next(finding for finding in result if finding["name"] == "requirements")
    assert (by_profile["good"]["level"], by_profile["good"]["message"]) == ("ok", "blur@1: lower is better")
    assert (by_profile["bad"]["level"], "blur@7" in by_profile["bad"]["message"]) == ("fail", True)


def test_what_cannot_be_scored_by_is_refused_with_a_hint(run, system, card, tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg(0.5))
    for words, code, message in (
        (["score", "a.jpg", "--model", "tiny"], 78, "dpiqa requirements create"),
        (["score", "a.jpg", "--requirement", "nonesuch"], 4, "no requirement 'nonesuch'"),
        (["score", "a.jpg", "--requirement", "No Name", "--model", "tiny"], 2, "requirement 'No Name'"),
        (["score", "a.jpg", "--model", "bundled-tiny", "-r", "blur"], 78, "cannot score by a requirement"),
        (["score", "a.jpg", "--profile", "smoke", "-r", "blur"], 2, "cannot be combined"),
        (["score", "a.jpg", "--precision", "float16"], 2, "need --model"),
        (["score", "a.jpg", "--model", "brightness", "--precision", "float16"], 78, "float32 only"),
        (["submit", "s3://photos/", "--profile", "smoke", "-r", "blur"], 2, "cannot be combined"),
        (["scores", "--profile", "smoke", "-r", "blur"], 2, "cannot be combined"),
    ):
        result = run(*words)
        assert (result.exit_code, message in " ".join(result.stderr.split())) == (code, True), (words, result.stderr)


def test_without_a_database_a_requirement_names_the_setting(run, card, tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg(0.5))
    result = run("score", "a.jpg", "--requirement", "blur")
    assert (result.exit_code, "DPIQA_DATABASE_URL" in result.stderr) == (78, True)


def test_pairs_of_a_file_need_no_database(run, card, tmp_path, monkeypatch):
    monkeypatch.delenv("DPIQA_DATABASE_URL", raising=False)
    lines = ["path,score"]
    for number, level in enumerate(LEVELS):
        (tmp_path / f"{number}.jpg").write_bytes(jpeg(level, seed=number))
        lines.append(f"{number}.jpg,{level}")
    (tmp_path / "pairs.csv").write_text("\n".join(lines))
    words = ["score", "0.jpg", "4.jpg", "--pairs", "pairs.csv", "--model", "tiny", "--force", "-o", "f.csv", "--resume"]
    first = run(*words)
    assert first.exit_code == 0, first.stderr
    with (tmp_path / "f.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["scorer_id"] for row in rows}) == 1
    assert rows[0]["scorer_id"].startswith(f"{card.scorer_id}:pairs-")
    again = run(*words, "--json")
    assert json.loads(again.stdout)["rows"] == 0, again.stderr
    (tmp_path / "pairs.csv").write_text("\n".join([*lines[:-1], "4.jpg,0.8"]))
    other = run(*words)
    assert (other.exit_code, "holds scores by" in other.stderr) == (2, True)
    assert run("score", "0.jpg", "--pairs", "pairs.csv").exit_code == 2
    assert run("score", "0.jpg", "--pairs", "none.csv", "--model", "tiny").exit_code == 4
