"""`dpiqa evaluate`, from the command line to the files."""

import json

import pytest
from support.photos import jpeg, png

CSV = ("--dataset", "csv", "--data", "labels.csv")


@pytest.fixture
def labels(tmp_path):
    """Ten pictures whose label is nearly their brightness, the last one broken; every fifth is training."""
    lines = ["image,mos,split,near_duplicate_group"]
    for number in range(10):
        (tmp_path / f"{number}.png").write_bytes(png(number / 10) if number != 9 else b"words")
        mos = number / 10 + (0.05 if number % 2 else 0)
        lines.append(f"{number}.png,{mos:.2f},{'train' if number % 5 == 0 else 'val'},")
    file = tmp_path / "labels.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


def evaluate(run, labels, *more):
    return run("evaluate", "scores", "brightness", "--dataset", "csv", "--data", labels, *more)


def test_figures_and_a_failure_that_is_not_dropped(run, labels):
    result = evaluate(run, labels, "--split", "val", "--json")
    assert result.exit_code == 1, result.stderr
    assert "1 images were not scored" in result.stderr
    document = json.loads(result.stdout)
    (found,) = document["results"]
    assert (found["n"], found["failures"], found["failure_reasons"]) == (7, 1, {"not_an_image": 1})
    assert found["srcc"] == pytest.approx(1)
    assert found["plcc"] > 0.98
    assert found["intervals_95"]["srcc"] == [pytest.approx(1), pytest.approx(1)]
    assert document["scorer"].startswith("brightness:")


def test_people_see_one_set_as_lines_and_several_as_a_table(run, labels):
    one = evaluate(run, labels, "--split", "train")
    assert one.exit_code == 0, one.stderr
    assert "SRCC" in one.stdout
    several = evaluate(run, labels, "--split", "train", "--dataset", "csv", "--data", labels)
    assert several.stdout.count("train (published)") == 2


def test_five_random_splits(run, labels):
    result = evaluate(run, labels, "--protocol", "five-splits", "--json")
    (found,) = json.loads(result.stdout)["results"]
    assert len(found["five_splits"]["sides"]) == 5
    assert found["split"] == "five-splits"


def test_the_report_folder(run, labels, tmp_path):
    evaluate(run, labels, "--split", "val", "--output", tmp_path / "report")
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert names == {"evaluation.md", "evaluation.json", "scores.csv", "csv-predicted.png", "csv-errors.png"}


def test_distortions(run, tmp_path):
    for number in range(2):
        (tmp_path / f"{number}.jpg").write_bytes(jpeg(0.3, seed=number))
    words = ["evaluate", "distortions", "brightness", "--data", tmp_path]
    words += ["--kind", "underexposure", "--kind", "haze"]
    result = run(*words, "--json", "--output", tmp_path / "report")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert (document["images"], document["falling"]) == (2, 1)
    assert document["kinds"]["haze"]["rises_at"] == [1, 2, 3, 4, 5]
    assert (tmp_path / "report/distortions.png").stat().st_size > 1000
    result = run(*words, "--limit", 1)
    assert "falls with strength for 1 of 2 kinds, over 1 pictures" in result.stderr
    assert "rises at 1, 2, 3, 4, 5" in result.stdout


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["scores", "nope", *CSV], 4, "nope"),
        (["scores", "brightness"], 2, "one --data for each"),
        (["routing", "student-only", *CSV], 2, "never asks a teacher"),
        (["routing", "nope", *CSV], 4, "nope"),
        (["routing", "smoke", *CSV, *CSV], 2, "give one --dataset"),
        (["compare", "brightness", "brightness", *CSV], 2, "named twice"),
        (["compare", "brightness", "--seeds", *CSV], 2, "name two or more"),
        (["compare", "brightness", "bundled-tiny", *CSV, *CSV], 2, "give one --dataset"),
        (["scores", "brightness", "--card", ".", *CSV], 2, "card of brightness is not in"),
        (["scores", "brightness", "--dataset", "csv"], 2, "one --data for each"),
        (["scores", "brightness", *CSV], 2, "no images of split 'test'"),
        (["scores", "brightness", *CSV, *CSV, "--called", "mine"], 2, "--called is for one data set"),
        (["scores", "brightness", "--dataset", "koniq10k", "--data", "."], 2, "KonIQ"),
        (["scores", "brightness", "--dataset", "kniq", "--data", "."], 4, "kniq"),
        (["distortions", "brightness", "--data", ".", "--kind", "rust"], 4, "rust"),
        (["distortions", "brightness", "--data", "nowhere"], 4, "does not exist"),
        (["scores", "brightness", *CSV, "--split", "val", "--protocol", "five-splits"], 2, "makes its own splits"),
    ],
)
def test_mistakes_are_one_line(run, labels, words, code, says):
    result = run("evaluate", *words)
    assert result.exit_code == code, result.stderr
    assert says in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["scores", *CSV], "MODEL"),
        (["scores", "brightness", "--routing", "smoke", *CSV], "--routing"),
        (["scores", "brightness", "--kind", "jpeg", *CSV], "--kind"),
        (["compare", "brightness", "judge", "--requirement", "r", *CSV], "--requirement"),
        (["routing", "smoke", "--protocol", "five-splits", *CSV], "--protocol"),
        (["distortions", "brightness", "--data", ".", "--dataset", "csv"], "--dataset"),
        (["distortions", "brightness"], "--data"),
    ],
)
def test_an_option_of_another_subcommand_is_refused(run, labels, words, names):
    result = run("evaluate", *words)
    assert result.exit_code == 2
    assert names in result.stderr
