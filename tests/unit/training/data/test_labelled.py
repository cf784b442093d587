"""The pixel cache: computed once, resumed, and aware of changed files."""

import numpy as np
import pytest
from PIL import Image

from dpiqa.datasets.spec import LabelledImage
from dpiqa.errors import InvalidRequest
from dpiqa.imaging.decode import Limits, decode_and_prepare
from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.training.config.run import DataConfig
from dpiqa.training.data import array_cache
from dpiqa.training.data import labelled as labelled_pictures
from dpiqa.training.data.labelled import cached_pixels, load_labelled

SIZE = Preprocessing(width=32, height=32)


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(1)
    paths = [tmp_path / f"{number}.png" for number in range(10)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(path)
    return paths


@pytest.fixture
def decoded(monkeypatch):
    """Names of the files that were decoded."""
    names, original = [], labelled_pictures.decode

    def spy(path, *rest):
        names.append(path.name)
        return original(path, *rest)

    monkeypatch.setattr(labelled_pictures, "decode", spy)
    return names


def test_pixels_are_those_of_production_and_made_once(pictures, tmp_path, decoded):
    first = cached_pixels(pictures, SIZE, tmp_path / "cache")
    for row, path in enumerate(pictures):
        np.testing.assert_array_equal(first.pixels[row], decode_and_prepare(path.read_bytes(), SIZE, Limits()))
    again = cached_pixels(pictures, SIZE, tmp_path / "cache")
    np.testing.assert_array_equal(again.pixels, first.pixels)
    assert again.sha256 == first.sha256
    assert len(decoded) == 10


def test_a_stopped_process_goes_on_and_a_changed_file_is_noticed(pictures, tmp_path, decoded, monkeypatch):
    monkeypatch.setattr(array_cache, "BLOCK", 4)

    def stop(notes, lines):
        original(notes, lines)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        original = array_cache.RowNotes.add
        patch.setattr(array_cache.RowNotes, "add", stop)
        with pytest.raises(KeyboardInterrupt):
            cached_pixels(pictures, SIZE, tmp_path / "cache")
    assert sorted(decoded) == [f"{number}.png" for number in range(4)]
    cached_pixels(pictures, SIZE, tmp_path / "cache")
    assert sorted(decoded) == sorted(path.name for path in pictures)
    Image.new("RGB", (64, 64), "red").save(pictures[3])
    assert (cached_pixels(pictures, SIZE, tmp_path / "cache").pixels[3] == [255, 0, 0]).all()


def labelled(paths):
    return [
        LabelledImage(path=path, mos=number / 10, split="val" if number > 6 else "train")
        for number, path in enumerate(paths)
    ]


def test_a_bad_picture_is_refused_or_left_out(pictures, tmp_path):
    pictures[2].write_bytes(b"\x89PNG\r\n\x1a\n not really")
    config = DataConfig(cache=tmp_path / "cache")
    with pytest.raises(InvalidRequest, match=r"2\.png cannot be decoded"):
        load_labelled(labelled(pictures), SIZE, config)
    data = load_labelled(labelled(pictures), SIZE, config.model_copy(update={"unreadable": "skip"}))
    assert list(data.train) == [0, 1, 3, 4, 5, 6]
    assert list(data.val) == [7, 8, 9]


def test_the_digest_is_of_labels_and_files_and_not_of_places(pictures, tmp_path):
    config = DataConfig(cache=tmp_path / "cache")
    first = load_labelled(labelled(pictures), SIZE, config).digest
    moved = tmp_path / "moved"
    moved.mkdir()
    copies = [moved / path.name for path in pictures]
    for path, copy in zip(pictures, copies, strict=True):
        copy.write_bytes(path.read_bytes())
    assert load_labelled(labelled(copies), SIZE, config).digest == first
    changed = labelled(pictures)
    changed[0] = LabelledImage(path=pictures[0], mos=0.9, split="train")
    assert load_labelled(changed, SIZE, config).digest != first


def test_without_both_sides_or_files_it_says_so(pictures, tmp_path):
    config = DataConfig(cache=tmp_path / "cache")
    with pytest.raises(InvalidRequest, match="7 images to train on and 0 of split 'val'"):
        load_labelled(labelled(pictures)[:7], SIZE, config)
    flat = [LabelledImage(path=image.path, mos=0.5, split=image.split) for image in labelled(pictures)]
    with pytest.raises(InvalidRequest, match="same label"):
        load_labelled(flat, SIZE, config)
    with pytest.raises(InvalidRequest, match=r"nowhere\.png cannot be read"):
        cached_pixels([tmp_path / "nowhere.png"], SIZE, tmp_path / "cache")
