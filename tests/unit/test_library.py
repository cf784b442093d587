"""`dpiqa.load` and `dpiqa.list_models`: every kind of image gets the score of its file."""

import doctest
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

import dpiqa
import dpiqa.library
from dpiqa.errors import ConfigurationError, InvalidRequest, NotFound
from dpiqa.types import Reason


@pytest.fixture(scope="module")
def scorer():
    with dpiqa.load("brightness", decode_processes=1) as loaded:
        yield loaded


@pytest.fixture
def picture():
    return Image.fromarray(np.random.default_rng(7).integers(0, 256, (90, 120, 3), dtype=np.uint8))


def test_path_bytes_picture_and_array_of_one_image_have_one_score(scorer, picture, tmp_path):
    path = tmp_path / "a.png"
    picture.save(path)
    images = [path, str(path), path.read_bytes(), picture, np.asarray(picture)]
    rows = scorer.score(images)
    assert len({row.score for row in rows}) == 1
    assert rows[0].score == dpiqa.score(path, model="brightness")[0].score
    assert scorer.score(picture).score == rows[3].score
    assert list(scorer.scores(images)) == [rows[0].score] * 5


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "I;16", "CMYK"])
def test_pictures_of_every_mode_are_scored_as_their_files(scorer, picture, mode, tmp_path):
    converted = picture.convert("I").convert("I;16") if mode == "I;16" else picture.convert(mode)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    converted.save(path)
    in_memory, in_file = scorer.score([converted, path])
    assert in_memory.score == in_file.score is not None


def test_orientation_and_profile_of_a_picture_count(scorer, tmp_path):
    picture = Image.new("RGB", (100, 40), (200, 10, 10))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.jpg", exif=exif)
    with Image.open(tmp_path / "a.jpg") as opened:
        assert scorer.score(opened).score == pytest.approx(scorer.score(tmp_path / "a.jpg").score, abs=0.002)


def test_details_are_measures_of_the_picture(scorer, picture):
    row, broken = scorer.score([picture, b"text"], details=True)
    assert row.measures.as_row() == pytest.approx(dpiqa.measure(picture).as_row(), abs=0.0001)
    assert broken.measures is None
    assert scorer.score(picture).measures is None


def test_one_bad_image_harms_only_itself(scorer, picture):
    rows = scorer.score([b"", b"text", picture, "/no/such/file.jpg"])
    assert [row.reason for row in rows] == [Reason.EMPTY, Reason.NOT_AN_IMAGE, None, Reason.OBJECT_DELETED]
    assert np.isnan(scorer.scores([b"text", picture])).tolist() == [True, False]
    assert scorer.score([]) == []


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 3)), r"an array of \(4, 4, 3\) float64"),
        (np.zeros((4, 4, 4), np.uint8), r"an array of \(4, 4, 4\) uint8"),
        (np.zeros((0, 4), np.uint8), r"an array of \(0, 4\) uint8"),
        ([None], "a NoneType is not an image"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(scorer, image, message):
    with pytest.raises(InvalidRequest, match=message):
        scorer.score(image)


def test_names_and_options_are_checked_before_anything_is_loaded():
    with pytest.raises(NotFound, match="no-such-model"):
        dpiqa.load("no-such-model")
    with pytest.raises(ConfigurationError):
        dpiqa.load("brightness", decode_processes=0)


def test_it_can_be_pickled_and_called_with_columns_as_ray_does(picture, tmp_path):
    picture.save(tmp_path / "a.png")
    with pickle.loads(pickle.dumps(dpiqa.load("brightness", decode_processes=1))) as copy:
        batch = copy({"path": np.array([str(tmp_path / "a.png"), "/none.jpg"]), "n": np.array([1, 2])})
        assert batch["n"].tolist() == [1, 2]
        assert np.isnan(batch["score"]).tolist() == [False, True]
        assert batch["reason"].tolist() == ["", "object_deleted"]
        assert batch["scorer_id"][0] == copy.card.scorer_id
        assert copy({"image": [np.asarray(picture)]})["score"][0] == batch["score"][0]
        with pytest.raises(InvalidRequest, match="no column of images"):
            copy({"url": ["a"]})


def test_threads_may_share_one(scorer):
    greys = [Image.new("L", (64, 64), grey) for grey in range(0, 250, 50)]
    found = {}

    def score(grey):
        found[grey] = scorer.score(greys[grey]).score

    threads = [threading.Thread(target=score, args=[n]) for n in range(len(greys))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[n] for n in range(5)] == [scorer.score(grey).score for grey in greys]


def test_the_cards_of_models_are_listed():
    cards = {card.name: card for card in dpiqa.list_models()}
    assert cards["bundled-student"].licence
    assert cards["brightness"].scorer_id.startswith("brightness:")


def test_the_examples_of_the_docstrings_hold():
    done = doctest.testmod(dpiqa.library)
    assert (done.failed, done.attempted >= 6) == (0, True)


def test_python_m_dpiqa_is_the_command_line():
    done = subprocess.run(
        [sys.executable, "-m", "dpiqa", "--version"], check=False, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout.startswith(f"dpiqa {dpiqa.__version__}")) == (0, True)
