"""`dpiqa gallery`: what is in the file, and what may not be."""

import base64
import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image
from support.photos import jpeg, png


@pytest.fixture
def folder(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for n in range(5):
        (photos / f"{n}.png").write_bytes(png(n / 5))
    (photos / '<script>alert("1")<|script>&.jpg').write_bytes(jpeg(1, (900, 300)))
    (photos / "broken.jpg").write_bytes(b"no image")
    return photos


def written(name="g.html"):
    return Path(name).read_text("utf-8")


def pictures(page):
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in re.findall(r"base64,([^\"]+)\"", page)]


def test_the_worst_of_a_folder_with_their_scores(run, folder):
    result = run("gallery", "photos", "--model", "brightness", "--worst", "2", "-o", "g.html", "--json")
    assert result.exit_code == 0, result.stderr
    page = written()
    size = Path("g.html").stat().st_size
    assert json.loads(result.stdout) == {"output": "g.html", "images": 2, "failures": 1, "bytes": size}
    assert page.index("photos/0.png") < page.index("photos/1.png") < page.index("photos/broken.jpg")
    assert "photos/2.png" not in page
    assert "0.2000" in page
    assert "not_an_image" in page
    assert "The worst 2 of 6 scored images" in page


def test_names_are_text_and_nothing_is_loaded(run, folder):
    assert run("gallery", "photos", "--model", "brightness", "--best", "1", "-o", "g.html").exit_code == 0
    page = written()
    assert "<script" not in page
    assert "&lt;script&gt;alert(&quot;1&quot;)&lt;|script&gt;&amp;.jpg" in page
    assert "default-src 'none'" in page
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page)
    (picture,) = pictures(page)
    assert picture.size == (320, 107)  # the aspect ratio is kept


def test_a_file_of_scores(run, folder):
    assert run("score", "photos", "--model", "brightness", "-o", "s.parquet").exit_code == 1
    (folder / "1.png").unlink()
    assert run("gallery", "s.parquet", "--worst", "3", "-o", "g.html").exit_code == 0
    page = written()
    assert len(pictures(page)) == 2
    assert "cannot be shown" in page
    (folder / "odd.csv").write_text("a,b\n1,2\n")
    result = run("gallery", "photos/odd.csv", "-o", "h.html")
    assert (result.exit_code, "not a file of scores" in result.stderr) == (2, True)


def test_jobs_and_prefixes(run, scored, system):
    system.put("k/0000.png", png(0))
    result = run("gallery", "--job", "latest", "--worst", "3", "-o", "g.html")
    assert result.exit_code == 0, result.stderr
    page = written()
    assert (len(pictures(page)), page.count("cannot be shown"), "truncated" in page) == (1, 2, True)
    assert run("gallery", "--prefix", f"s3://{system.name}/k/", "--best", "1", "-o", "h.html").exit_code == 0
    assert "k/1099.png" in written("h.html")
    assert run("gallery", "--prefix", "s3://nowhere/", "-o", "i.html").exit_code == 4
    assert not Path("i.html").exists()


@pytest.mark.parametrize(
    "words",
    [[], ["photos", "--job", "latest"], ["photos", "--worst", "1", "--best", "1"], ["--job", "latest", "-m", "x"]],
    ids=" ".join,
)
def test_what_cannot_be(run, folder, words):
    result = run("gallery", *words, "-o", "g.html")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.stderr
