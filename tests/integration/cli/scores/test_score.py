"""`dpiqa score` on files and objects, with real decode processes."""

import csv
import json
from pathlib import Path

import pyarrow.parquet
import pytest
from support.photos import jpeg, png

from dpiqa.imaging.measured import MEASURE_NAMES
from dpiqa.objects.store import LocalFiles


@pytest.fixture
def folder(tmp_path):
    photos = tmp_path / "photos"
    (photos / "more").mkdir(parents=True)
    (photos / "dark.png").write_bytes(png(0))
    (photos / "more" / "grey.png").write_bytes(png(0.5))
    (photos / "more" / "white.png").write_bytes(png(1))
    (photos / "broken.jpg").write_bytes(b"no image")
    (photos / "notes.txt").write_bytes(b"no image either")
    return photos


def test_json_for_each_image(run, folder):
    result = run("score", "photos", "--model", "brightness", "--json")
    assert result.exit_code == 1, result.stderr
    rows = {row["path"]: row for row in json.loads(result.stdout)}
    assert {path: row["score"] for path, row in rows.items()} == {
        "photos/broken.jpg": None,
        "photos/dark.png": 0.0,
        "photos/more/grey.png": pytest.approx(0.5, abs=0.01),
        "photos/more/white.png": 1.0,
    }
    assert rows["photos/dark.png"]["model"] == "brightness"
    assert (rows["photos/broken.jpg"]["state"], rows["photos/broken.jpg"]["reason"]) == ("rejected", "not_an_image")


def test_all_scored_is_zero(run, folder):
    assert run("score", folder / "more", "--model", "brightness").exit_code == 0


@pytest.mark.heavy
def test_another_backend_gives_the_score_of_eager_and_auto_is_eager_here(run, folder, monkeypatch, tmp_path):
    monkeypatch.setenv("DPIQA_CACHE_DIR", str(tmp_path / "cache"))

    def score(*options):
        result = run("score", folder / "more" / "grey.png", "--model", "bundled-tiny", *options, "--json")
        assert result.exit_code == 0, result.stderr
        (row,) = json.loads(result.stdout)
        return row["scorer_id"], row["score"]

    own_id, own = score("--backend", "auto")
    assert own_id.endswith(":float32")
    assert score("--backend", "onnxruntime") == (f"{own_id}+onnxruntime", pytest.approx(own, abs=1e-3))
    assert len(list((tmp_path / "cache" / "graphs").glob("*.onnx"))) == 1


def test_people_see_worst_first_and_the_reasons(run, folder):
    result = run("score", folder, "--model", "brightness").stdout
    assert result.index("dark.png") < result.index("grey.png") < result.index("white.png")
    assert "not_an_image" in result
    assert "95 %" in result


def test_an_explicit_file_may_be_called_anything(run, folder):
    (folder / "photo").write_bytes(png(1))
    result = run("score", folder / "photo", "--model", "brightness", "--json")
    assert [row["score"] for row in json.loads(result.stdout)] == [1.0]


def test_the_profile_routes(run, folder):
    rows = json.loads(run("score", folder / "more", "--profile", "smoke", "--json").stdout)
    assert [(row["stage"], row["route"]) for row in rows] == [("teacher", "borderline"), ("student", "clear")]


MEASURED = {"width": 64, "height": 64, "contrast": 0.0, "clipped_dark": 1.0, "clipped_bright": 0.0, "noise": 0.0}


def test_details_are_columns_of_every_output(run, folder):
    result = run("score", folder, "--model", "brightness", "--details", "--json")
    rows = {Path(row["path"]).name: row for row in json.loads(result.stdout)}
    assert {name: rows["dark.png"][name] for name in MEASURED} == MEASURED
    assert (rows["white.png"]["clipped_bright"], rows["broken.jpg"]["width"]) == (1.0, None)
    table = run("score", folder, "--model", "brightness", "--details").stdout
    assert {"sharpness", "dark", "bright", "cast"} <= set(table.split())
    for name in ("f.csv", "f.jsonl", "f.parquet"):
        assert run("score", folder, "--model", "brightness", "--details", "-o", name).exit_code == 1
        assert run("validate", name).exit_code == 0
    columns = pyarrow.parquet.read_table("f.parquet")
    assert columns.column_names[-9:] == list(MEASURE_NAMES)
    with Path("f.csv").open(newline="") as file:
        assert [float(row["clipped_dark"]) for row in csv.DictReader(file) if "dark" in row["path"]] == [1.0]


def test_a_file_without_details_is_not_gone_on_with_details(run, folder):
    assert run("score", folder, "--model", "brightness", "-o", "f.csv").exit_code == 1
    result = run("score", folder, "--model", "brightness", "--details", "-o", "f.csv", "--resume")
    assert result.exit_code == 2
    assert "--details or not" in result.stderr


def test_files_of_every_format(run, folder):
    for name in ("f.csv", "f.jsonl", "f.parquet"):
        assert run("score", folder, "--model", "brightness", "-o", name).exit_code == 1
    with Path("f.csv").open(newline="") as file:
        from_csv = [row["path"] for row in csv.DictReader(file)]
    with Path("f.jsonl").open() as file:
        from_jsonl = [json.loads(line)["path"] for line in file]
    assert from_csv == from_jsonl == pyarrow.parquet.read_table("f.parquet").column("path").to_pylist()
    assert len(from_csv) == 4


def test_limit(run, folder):
    assert len(json.loads(run("score", folder, "--model", "brightness", "-n", 2, "--json").stdout)) == 2


def test_objects(run, system):
    for number in range(3):
        system.put(f"in/{number}.png", png(number / 2))
    system.put("in/text", b"words")
    system.put("in/._2.png", b"Apple's")
    result = run("score", f"s3://{system.name}/in/", "--model", "brightness", "--json")
    rows = {row["key"]: row for row in json.loads(result.stdout)}
    assert {row["bucket"] for row in rows.values()} == {system.name}
    assert [rows[f"in/{number}.png"]["score"] for number in range(3)] == pytest.approx([0, 0.5, 1], abs=0.01)
    assert rows["in/text"]["reason"] == "not_an_image"
    assert "passed over: not images 1 (.png 1)" in result.stderr
    assert "in/._2.png" not in rows
    one = json.loads(run("score", f"s3://{system.name}/in/2.png", "--model", "brightness", "--json").stdout)
    assert [row["key"] for row in one] == ["in/2.png"]


def test_what_is_not_in_the_bucket(run, system):
    result = run("score", f"s3://{system.name}/nothing/", "--model", "brightness")
    assert (result.exit_code, "keys are case-sensitive" in result.stderr) == (4, True)
    result = run("score", "s3://no-such-bucket-here/", "--model", "brightness")
    assert (result.exit_code, "no bucket no-such-bucket-here" in result.stderr) == (78, True)


def test_bundled_models(run, tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg(0.5, (300, 200)))
    for name in ("bundled-student", "bundled-tiny", "bundled-teacher"):
        result = run("score", "a.jpg", "--model", name, "--json")
        assert result.exit_code == 0, result.stderr
        (row,) = json.loads(result.stdout)
        assert -1 < row["score"] < 2
        assert row["scorer_id"].startswith(f"{name}:")


def test_several_profiles_have_columns_each_and_read_a_file_once(run, folder, tmp_path, monkeypatch):
    for name in ("one", "two"):
        (tmp_path / f"{name}.toml").write_text(f'name = "{name}"\nversion = 1\nstudent = "brightness"\n')
    monkeypatch.setenv("DPIQA_PROFILES_DIR", str(tmp_path))
    read = []
    get = LocalFiles.get
    monkeypatch.setattr(LocalFiles, "get", lambda self, ref, n: read.append(ref.key) or get(self, ref, n))
    result = run("score", folder, "-p", "one", "-p", "two", "-o", "f.csv", "--json")
    assert result.exit_code == 1, result.stderr
    assert json.loads(result.stdout)["rows"] == 4
    assert len(read) == len(set(read)) == 4
    with Path("f.csv").open(newline="") as file:
        rows = {Path(row["path"]).name: row for row in csv.DictReader(file)}
    assert rows["white.png"]["one@1.score"] == rows["white.png"]["two@1.score"] == "1.0"
    assert (rows["broken.jpg"]["one@1.reason"], rows["broken.jpg"]["two@1.state"]) == ("not_an_image", "rejected")
    table = run("score", folder, "-p", "one", "-p", "two").stdout
    assert table.index("dark.png") < table.index("white.png")
    assert run("score", folder, "-p", "one", "-p", "one").exit_code == 2
    detailed = json.loads(run("score", folder, "-p", "one", "-p", "two", "--details", "--json").stdout)
    assert [name for name in detailed[0] if "sharpness" in name] == ["sharpness"]
