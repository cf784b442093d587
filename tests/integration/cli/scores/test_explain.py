"""`dpiqa explain`, from the command line to the map."""

import json

import pytest
from PIL import Image
from support.photos import jpeg, png


def test_explain_writes_a_map(run, tmp_path):
    picture = Image.new("L", (90, 60), 200)
    picture.paste(30, (0, 30, 45, 60))
    picture.save(tmp_path / "photo.png")
    result = run("explain", "photo.png", "--model", "brightness", "-o", "map.png", "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["quadrants"][1][0] == min(value for row in document["quadrants"] for value in row) < 0
    with Image.open(tmp_path / "map.png") as drawn:
        assert drawn.format == "PNG"
        assert drawn.width > drawn.height
    assert "lower left" in run("explain", "photo.png", "-m", "brightness", "-o", "map.png").stdout


def test_explain_reads_objects(run, system):
    system.put("in/a.jpg", jpeg(0.5))
    result = run("explain", f"s3://{system.name}/in/a.jpg", "-m", "brightness", "-o", "map.png", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["score"] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["a.png", "-o", "map.jpg"], 2, "end its name in .png"),
        (["a.png", "-o", "nowhere/map.png"], 2, "does not exist"),
        (["gone.png", "-o", "map.png"], 4, "gone.png does not exist"),
        (
            ["broken.png", "-o", "map.png"],
            1,
            "broken.png is not scored: no known image signature / hint: name another image",
        ),
        (["a.png", "-o", "map.png", "--model", "nope"], 4, "nope"),
    ],
)
def test_explains_mistakes_are_one_line(run, tmp_path, words, code, says):
    (tmp_path / "a.png").write_bytes(png(0.5))
    (tmp_path / "broken.png").write_bytes(b"words")
    words = words if "--model" in words else [*words, "--model", "brightness"]
    result = run("explain", *words)
    assert (result.exit_code, says in result.stderr) == (code, True), result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "map.png").exists()
