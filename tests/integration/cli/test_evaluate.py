"""`dpiqa evaluate` and `dpiqa explain`, from the command line to the files."""

import json

import pytest
from PIL import Image
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
    shown = evaluate(run, labels, "--split", "val", "--json")
    assert shown.exit_code == 1, shown.stderr
    assert "1 images were not scored" in shown.stderr
    document = json.loads(shown.stdout)
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
    shown = evaluate(run, labels, "--protocol", "five-splits", "--json")
    (found,) = json.loads(shown.stdout)["results"]
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
    shown = run(*words, "--json", "--output", tmp_path / "report")
    assert shown.exit_code == 0, shown.stderr
    document = json.loads(shown.stdout)
    assert (document["images"], document["falling"]) == (2, 1)
    assert document["kinds"]["haze"]["rises_at"] == [1, 2, 3, 4, 5]
    assert (tmp_path / "report/distortions.png").stat().st_size > 1000
    shown = run(*words, "--limit", 1)
    assert "falls with strength for 1 of 2 kinds, over 1 pictures" in shown.stderr
    assert "rises at 1, 2, 3, 4, 5" in shown.stdout


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
        (["compare", "brightness", "bundled-student", *CSV, *CSV], 2, "give one --dataset"),
        (["scores", "brightness", "--card", ".", *CSV], 2, "card of brightness is not in"),
        (["scores", "brightness", "--dataset", "csv"], 2, "one --data for each"),
        (["scores", "brightness", *CSV], 2, "no images of split 'test'"),
        (["scores", "brightness", *CSV, *CSV, "--called", "mine"], 2, "--called is for one data set"),
        (["scores", "brightness", "--dataset", "koniq10k", "--data", "."], 2, "KonIQ"),
        (["scores", "brightness", "--dataset", "kniq", "--data", "."], 4, "kniq"),
        (["distortions", "brightness", "--data", ".", "--kind", "rust"], 2, "rust"),
        (["distortions", "brightness", "--data", "nowhere"], 4, "does not exist"),
        (["scores", "brightness", *CSV, "--split", "val", "--protocol", "five-splits"], 2, "makes its own splits"),
    ],
)
def test_mistakes_are_one_line(run, labels, words, code, says):
    shown = run("evaluate", *words)
    assert shown.exit_code == code, shown.stderr
    assert says in shown.stderr
    assert shown.stderr.count("\n") == 1


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
    shown = run("evaluate", *words)
    assert shown.exit_code == 2
    assert names in shown.stderr


def test_explain_writes_a_map(run, tmp_path):
    picture = Image.new("L", (90, 60), 200)
    picture.paste(30, (0, 30, 45, 60))
    picture.save(tmp_path / "photo.png")
    shown = run("explain", "photo.png", "--model", "brightness", "-o", "map.png", "--json")
    assert shown.exit_code == 0, shown.stderr
    document = json.loads(shown.stdout)
    assert document["quadrants"][1][0] == min(value for row in document["quadrants"] for value in row) < 0
    with Image.open(tmp_path / "map.png") as drawn:
        assert drawn.format == "PNG"
        assert drawn.width > drawn.height
    assert "lower left" in run("explain", "photo.png", "-m", "brightness", "-o", "map.png").stdout


def test_explain_reads_objects(run, system):
    system.put("in/a.jpg", jpeg(0.5))
    shown = run("explain", f"s3://{system.name}/in/a.jpg", "-m", "brightness", "-o", "map.png", "--json")
    assert shown.exit_code == 0, shown.stderr
    assert json.loads(shown.stdout)["score"] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["a.png", "-o", "map.jpg"], 2, "end its name in .png"),
        (["a.png", "-o", "nowhere/map.png"], 2, "does not exist"),
        (["gone.png", "-o", "map.png"], 4, "gone.png is gone"),
        (["broken.png", "-o", "map.png"], 1, "signature"),
        (["a.png", "-o", "map.png", "--model", "nope"], 4, "nope"),
    ],
)
def test_explains_mistakes_are_one_line(run, tmp_path, words, code, says):
    (tmp_path / "a.png").write_bytes(png(0.5))
    (tmp_path / "broken.png").write_bytes(b"words")
    words = words if "--model" in words else [*words, "--model", "brightness"]
    shown = run("explain", *words)
    assert (shown.exit_code, says in shown.stderr) == (code, True), shown.stderr
    assert shown.stderr.count("\n") == 1
    assert not (tmp_path / "map.png").exists()
