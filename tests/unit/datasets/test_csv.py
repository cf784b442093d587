"""A CSV of one's own."""

import pytest
from support.datasets import pictures

from dpiqa.datasets import LabelledImage, find_dataset, load_dataset
from dpiqa.errors import InvalidRequest, NotFound


@pytest.fixture
def write(tmp_path):
    """Write a CSV and the pictures a.png to d.png beside it."""
    pictures(tmp_path, [f"{name}.png" for name in "abcd"])

    def _write(text, name="labels.csv"):
        (tmp_path / name).write_bytes(text.encode())
        return tmp_path / name

    return _write


def test_path_and_score_are_enough(write):
    dataset = load_dataset("csv", write("File,SCORE\na.png,0.25\nb.png,1\n"))
    assert [(image.path.name, image.mos) for image in dataset.images] == [("a.png", 0.25), ("b.png", 1.0)]
    assert {image.split for image in dataset.images} == {"train", "test"}


def test_everything_it_may_say(write):
    file = write("image,mos,split,near_duplicate_group,subset\na.png,0.5,train,g1,night\nb.png,0.1,val,,day\n")
    assert load_dataset("csv", file).images == (
        LabelledImage(file.parent / "a.png", 0.5, "train", "night", "g1"),
        LabelledImage(file.parent / "b.png", 0.1, "val", "day", ""),
    )


def test_spreadsheets_marks_blank_lines_and_spaces(write):
    dataset = load_dataset("csv", write("\ufeffimage,mos\r\n a.png , 0.5 \r\n\r\n,\r\nb.png,0.25,\r\n"))
    assert [image.mos for image in dataset.images] == [0.5, 0.25]


@pytest.mark.parametrize(
    ("name", "labels"),
    [("csv:1..5", [0.0, 0.5, 1.0]), ("csv:5..1", [1.0, 0.5, 0.0]), ("csv:-3..9.5", [0.32, 0.48, 0.64])],
)
def test_scales_and_directions(write, name, labels):
    dataset = load_dataset(name, write("image,mos\na.png,1\nb.png,3\nc.png,5\n"))
    assert [image.mos for image in dataset.images] == pytest.approx(labels)


def test_a_folder_with_labels_csv_or_the_file_itself(write):
    file = write("image,mos\na.png,0.5\nb.png,0.5\n")
    assert load_dataset("csv", file).images == load_dataset("csv", file.parent).images


def test_images_may_lie_anywhere(write, tmp_path):
    pictures(tmp_path / "far", ["e.png"])
    (tmp_path / "near").mkdir()
    file = write(f"image,mos\n../a.png,0.5\n{tmp_path}/far/e.png,0.6\n", "near/labels.csv")
    assert load_dataset("csv", file).missing == ()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a.png,0.5\n", "has no column image"),
        ("image,quality\na.png,0.5\n", "has no column mos"),
        ("image,mos\na.png,5\n", "MOS 5.0 of a.png is outside 0 to 1"),
        ("image,mos\na.png,nan\n", "outside 0 to 1"),
        ("image,mos\na.png,high\n", "'high' is not a score"),
        ("image,mos,split\na.png,0.5,dev\n", "'dev' is not a split"),
        ("image,mos,split\na.png,0.5,train\nb.png,0.5,\n", "only some rows have a split"),
        ("image,mos,split,group\na.png,0.5,train,g1\nb.png,0.5,test,g1\n", "group g1 is in two splits"),
        ("image,mos\na.png,0.5\na.png,0.6\n", "lists a.png twice"),
        ("image,mos\n", "lists no images"),
        ("", "has no column image"),
    ],
)
def test_what_is_wrong_is_said(write, text, complaint):
    with pytest.raises(InvalidRequest) as caught:
        load_dataset("csv", write(text))
    assert complaint in caught.value.message
    assert caught.value.hint


def test_another_encoding_is_said(tmp_path):
    (tmp_path / "labels.csv").write_bytes("image,mos\nbär.png,0.5\n".encode("latin-1"))
    with pytest.raises(InvalidRequest, match="save it as UTF-8"):
        load_dataset("csv", tmp_path)


def test_scales_that_are_none():
    with pytest.raises(InvalidRequest, match="worst and best are the same"):
        find_dataset("csv:5..5")
    with pytest.raises(NotFound, match="no data set"):
        find_dataset("csv:1-5")
