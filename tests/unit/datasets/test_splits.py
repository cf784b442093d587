"""Who is learned from and who is tested on."""

from pathlib import Path, PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.datasets import build, pictures, table

from dpiqa.datasets import LabelledImage, five_splits, load_dataset, random_split
from dpiqa.datasets.splits import read_split_files, split_keys, split_name
from dpiqa.errors import InvalidRequest, NotFound

keys = st.lists(st.text("abcdefg", min_size=1, max_size=2), min_size=2, max_size=60)
seeds = st.integers(0, 2**31)


@given(keys, seeds)
def test_every_row_is_on_one_side_and_equal_keys_together(found, seed):
    split = random_split(found, seed=seed)
    assert sorted([*split.train, *split.test]) == list(range(len(found)))
    assert not {found[row] for row in split.train} & {found[row] for row in split.test}


@given(keys, seeds, st.floats(0.05, 0.95))
def test_the_share_of_keys_is_kept_and_no_side_is_empty(found, seed, share):
    different = set(found)
    train = {found[row] for row in random_split(found, seed=seed, train_share=share).train}
    assert len(train) == max(min(round(share * len(different)), len(different) - 1), 1)


@given(keys, seeds, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(found, seed, order):
    shuffled = order.sample(found, len(found))
    sides = [{rows[row] for row in random_split(rows, seed=seed).train} for rows in (found, shuffled)]
    assert sides[0] == sides[1]


def test_the_draw_is_the_same_everywhere():
    """Frozen: published figures depend on it."""
    assert random_split([str(number) for number in range(12)], seed=3).test == (4, 10)


def test_seeds_differ_and_are_fair():
    """Each of 50 rows is tested on about a fifth of the time."""
    rows = [str(number) for number in range(50)]
    drawn = [random_split(rows, seed=seed).test for seed in range(200)]
    assert len(set(drawn)) == 200
    assert all(15 < sum(row in test for test in drawn) < 70 for row in range(50))


def labelled(path, group=""):
    return LabelledImage(path=Path(path), mos=0.5, split="train", group=group)


def test_five_splits_keep_groups_and_differ():
    images = [labelled(f"set/{number}.png", f"reference {number // 4}") for number in range(40)]
    splits = five_splits(images)
    assert len(splits) == len(set(splits)) == 5
    for split in splits:
        assert len(split.train) == 32
        assert not {images[row].group for row in split.train} & {images[row].group for row in split.test}
    assert five_splits(images, seed=1)[0] == splits[1]


def test_splits_do_not_depend_on_where_a_set_lies_or_on_the_case_of_names():
    on_one_disk = [PurePath(f"/data/koniq/1024x768/{number}.jpg") for number in range(9)]
    on_another = [PurePath(f"512x384/{number}.JPG") for number in range(9)]
    assert split_keys(on_one_disk, [""] * 9) == split_keys(on_another, [""] * 9)


def test_equal_names_in_different_folders_are_different_images():
    paths = [PurePath(f"shoot{number}/original.png") for number in range(5)]
    deeper = [PurePath(f"{number}/out/original.png") for number in range(5)]
    assert len(set(split_keys(paths, [""] * 5))) == len(set(split_keys(deeper, [""] * 5))) == 5


@pytest.mark.parametrize(("word", "split"), [("training", "train"), ("Validation", "val"), (" test ", "test")])
def test_words_for_splits(word, split):
    assert split_name(word) == split


def test_a_word_that_is_no_split():
    with pytest.raises(InvalidRequest, match="'dev' is not a split"):
        split_name("dev")


def test_a_random_split_instead_of_the_official_one_by_seed(tmp_path):
    build("koniq10k", tmp_path)
    drawn = [load_dataset("koniq10k", tmp_path, split="random", split_seed=seed) for seed in (0, 0, 1)]
    assert drawn[0].images == drawn[1].images != drawn[2].images
    assert [len(found.of("train")) for found in drawn] == [8, 8, 8]
    assert drawn[2].split == "random 80% to train, seed 1"


def test_a_part_of_the_training_side_for_validation_leaves_the_test_side_alone(tmp_path):
    build("kadid10k", tmp_path)
    plain, shared = (load_dataset("kadid10k", tmp_path, val_share=share) for share in (0, 0.25))
    assert plain.of("test") == shared.of("test")
    assert {image.group for image in shared.of("val")}.isdisjoint(image.group for image in shared.of("train"))
    assert len({image.group for image in shared.of("val")}) == 1  # of four


def test_an_official_validation_split_is_not_added_to(tmp_path):
    build("koniq10k", tmp_path)
    assert load_dataset("koniq10k", tmp_path, val_share=0.5) == load_dataset("koniq10k", tmp_path)


def write_split(folder, **sides):
    folder.mkdir()
    for side, images in sides.items():
        lines = [f"{image}\t3.5\tnoise\tindoor\tinvalid\tinvalid\n" for image in images]
        (folder / f"set_{side}_clip.txt").write_text("".join(lines))
    return folder


def test_liqes_split_files(tmp_path):
    build("spaq", tmp_path / "set")
    names = [f"TestImage/{number:05d}.jpg" for number in range(1, 11)]
    folder = write_split(tmp_path / "1", train=names[:6], val=names[6:8], test=[*names[8:], "TestImage/99999.jpg"])
    found = load_dataset("spaq", tmp_path / "set", split=folder)
    assert [len(found.of(split)) for split in ("train", "val", "test")] == [6, 2, 2]
    assert {image.path.name for image in found.of("val")} == {"00007.jpg", "00008.jpg"}


def test_equal_names_are_told_apart_by_their_folder(tmp_path):
    names = ["jp2k/img1.bmp", "jpeg/img1.bmp"]
    pictures(tmp_path / "set", names)
    table(tmp_path / "set/labels.csv", ["image", "mos"], [(name, 0.5) for name in names])
    folder = write_split(tmp_path / "1", train=names[:1], test=names[1:])
    assert [image.split for image in load_dataset("csv", tmp_path / "set", split=folder).images] == ["train", "test"]


def test_split_files_of_another_set(tmp_path):
    build("spaq", tmp_path / "set")
    folder = write_split(tmp_path / "1", train=["TestImage/00001.jpg"], test=["TestImage/00002.jpg"])
    with pytest.raises(InvalidRequest, match=r"do not name 8 of 10 images, such as 00003\.jpg"):
        load_dataset("spaq", tmp_path / "set", split=folder)


def test_split_files_that_contradict_or_are_not_there(tmp_path):
    with pytest.raises(InvalidRequest, match=r"a\.png is in train and in test"):
        read_split_files(write_split(tmp_path / "1", train=["a.png"], test=["a.png"]))
    with pytest.raises(InvalidRequest, match=r"has no \*_train"):
        read_split_files(write_split(tmp_path / "2", train=["a.png"]))
    with pytest.raises(NotFound, match="is not a folder"):
        read_split_files(tmp_path / "3")
