"""Every reader on a tiny tree in its set's published layout."""

from collections import Counter, defaultdict

import pytest
from support.datasets import LAYOUTS, build, pictures, sheet, table

from dpiqa.datasets import DATASETS, load_dataset
from dpiqa.datasets.load import summary
from dpiqa.errors import InvalidRequest, NotFound

NAMES = sorted(LAYOUTS)
every = pytest.mark.parametrize("name", NAMES)


def test_every_reader_is_tried():
    assert set(LAYOUTS) == set(DATASETS)


@every
def test_all_images_are_read_with_their_labels(name, tmp_path):
    tiny = build(name, tmp_path / "set")
    dataset = load_dataset(name, tmp_path / "set")
    labels = {str(image.path.relative_to(tmp_path / "set")): image.mos for image in dataset.images}
    assert labels == pytest.approx(tiny.labels)
    assert all(0 <= mos <= 1 for mos in labels.values())
    assert all(image.path.is_file() for image in dataset.images)
    assert dataset.missing == ()


@every
def test_the_label_that_is_best_by_the_sets_own_scale_is_highest(name, tmp_path):
    """Said in the set's own terms: the lowest DMOS, the highest MOS."""
    build(name, tmp_path / "set")
    dataset = load_dataset(name, tmp_path / "set")
    ranked = sorted(dataset.images, key=lambda image: image.mos)
    first_listed, last_listed = dataset.images[0], dataset.images[-1]  # the trees list rising labels
    best, worst = (first_listed, last_listed) if dataset.spec.label == "DMOS" else (last_listed, first_listed)
    assert (ranked[-1], ranked[0]) == (best, worst)


@every
def test_splits_are_official_or_80_20_by_group(name, tmp_path):
    tiny = build(name, tmp_path / "set")
    dataset = load_dataset(name, tmp_path / "set")
    sizes = Counter(image.split for image in dataset.images)
    sides = defaultdict(set)
    for image in dataset.images:
        sides[image.group or image.path].add(image.split)
    if tiny.splits:
        assert dataset.split == "published"
        assert sizes == tiny.splits
    else:
        assert all(len(splits) == 1 for splits in sides.values())
        in_train = sum(splits == {"train"} for splits in sides.values())
        assert in_train == round(0.8 * len(sides))
        assert set(sizes) == {"train", "test"}
    assert sum(len(dataset.of(split)) for split in ("train", "val", "test")) == len(dataset.images)


@every
def test_groups_and_subsets(name, tmp_path):
    tiny = build(name, tmp_path / "set")
    figures = summary(load_dataset(name, tmp_path / "set"))
    assert figures["groups"] == tiny.groups
    assert tuple(figures["subsets"]) == tiny.subsets
    assert sum(figures["histogram"]) == figures["images"] == len(tiny.labels)


@every
def test_a_wrong_layout_says_what_was_expected_and_what_is_there(name, tmp_path):
    (tmp_path / "something").mkdir()
    (tmp_path / "else.txt").touch()
    with pytest.raises(InvalidRequest) as caught:
        load_dataset(name, tmp_path)
    first = DATASETS[name].readers[0].files[0]
    assert f"it has no {first}; it holds else.txt, something/" in caught.value.message
    assert "is expected as" in caught.value.hint


@every
def test_the_folder_above_is_told_from_a_wrong_one(name, tmp_path):
    build(name, tmp_path / "inside")
    with pytest.raises(InvalidRequest, match=r"name .*/inside instead"):
        load_dataset(name, tmp_path)


@every
def test_a_missing_image_is_named_and_stays(name, tmp_path):
    tiny = build(name, tmp_path / "set")
    gone = tmp_path / "set" / sorted(tiny.labels)[3]
    gone.unlink()
    dataset = load_dataset(name, tmp_path / "set")
    assert [path.name.casefold() for path in dataset.missing] == [gone.name.casefold()]
    assert len(dataset.images) == len(tiny.labels)


@every
def test_no_image_at_all_is_a_wrong_layout(name, tmp_path):
    tiny = build(name, tmp_path / "set")
    for image in tiny.labels:
        (tmp_path / "set" / image).unlink()
    with pytest.raises(InvalidRequest, match=f"none of the {len(tiny.labels)} images listed in .* exists; the first"):
        load_dataset(name, tmp_path / "set")
    labels_alone = load_dataset(name, tmp_path / "set", without_images=True)
    assert len(labels_alone.missing) == len(tiny.labels)


def test_a_part_of_a_set_has_the_same_labels(tmp_path):
    tiny = build("koniq10k", tmp_path / "whole")
    lines = (tmp_path / "whole/koniq10k_distributions_sets.csv").read_text().splitlines()
    (tmp_path / "part").mkdir()
    (tmp_path / "part/koniq10k_distributions_sets.csv").write_text("\n".join([lines[0], *lines[4:7]]))
    pictures(tmp_path / "part/512x384", ["3.jpg", "4.jpg", "5.jpg"])
    part = load_dataset("koniq10k", tmp_path / "part")
    assert {image.path.name: image.mos for image in part.images} == {
        name.split("/")[1]: mos for name, mos in tiny.labels.items() if name[-5] in "345"
    }


def test_a_label_just_beyond_the_scale_counts_as_its_end(tmp_path):
    """As BIQ2021 publishes a few."""
    build("biq2021", tmp_path)
    table(tmp_path / "Test.csv", ["Image Name", "MOS"], [("ss03 (8).jpg", -0.02032), ("ss01 (9).jpg", 1.001)])
    assert [image.mos for image in load_dataset("biq2021", tmp_path).of("test")] == [0.0, 1.0]


def test_a_label_outside_the_scale_is_another_file(tmp_path):
    build("kadid10k", tmp_path)
    table(tmp_path / "dmos.csv", ["dist_img", "ref_img", "dmos"], [("I01_01_01.png", "I01.png", 62.5)])
    with pytest.raises(InvalidRequest, match=r"MOS 62\.5 of I01_01_01\.png is outside 1 to 5"):
        load_dataset("kadid10k", tmp_path)


@pytest.mark.parametrize("text", ["good", "", "nan"])
def test_a_label_that_is_no_number_is_an_error(tmp_path, text):
    build("gfiqa20k", tmp_path)
    table(tmp_path / "mos_rating.csv", ["img_name", "mos"], [("0.png", 0.5), ("1.png", text)])
    with pytest.raises(InvalidRequest, match=r"mos_rating\.csv"):
        load_dataset("gfiqa20k", tmp_path)


def test_a_missing_column_is_named(tmp_path):
    build("spaq", tmp_path)
    sheet(tmp_path / "Annotations/MOS and Image attribute scores.xlsx", [("Image name", "Score"), ("00001.jpg", 3)])
    with pytest.raises(InvalidRequest, match="has no column 'MOS'"):
        load_dataset("spaq", tmp_path)


@pytest.mark.parametrize(("name", "file"), [("clive", "Data/AllMOS_release.mat"), ("uwiqa", "IQA_Value.xlsx")])
def test_a_damaged_label_file_is_named(name, file, tmp_path):
    build(name, tmp_path)
    (tmp_path / file).write_bytes(b"PK\x03\x04 not what it says")
    with pytest.raises(InvalidRequest, match=r"cannot be read"):
        load_dataset(name, tmp_path)


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        ("live", "refnames_all.mat"),
        ("clive", "Data/AllImages_release.mat"),
        ("biq2021", "Test.csv"),
        ("flive", "labels640.csv"),
    ],
)
def test_the_second_label_file_is_asked_for(name, gone, tmp_path):
    build(name, tmp_path)
    (tmp_path / gone).unlink()
    with pytest.raises(InvalidRequest, match="belongs to the set") as caught:
        load_dataset(name, tmp_path)
    assert gone.split("/")[-1] in caught.value.message


def test_scores_without_the_official_split_are_split_at_random(tmp_path):
    build("koniq10k", tmp_path / "set")
    (tmp_path / "set/koniq10k_distributions_sets.csv").unlink()
    rows = [(f"{number}.jpg", 1.5, 10.0 * number) for number in range(10)]
    table(tmp_path / "set/koniq10k_scores_and_distributions.csv", ["image_name", "MOS", "MOS_zscore"], rows)
    dataset = load_dataset("koniq10k", tmp_path / "set")
    assert dataset.images[9].mos == pytest.approx(0.9)
    assert dataset.split == "random 80% to train, seed 0"


@pytest.mark.parametrize(
    ("name", "file", "image", "score", "mos"),
    [
        ("live", "LIVE.txt", "jp2k/img3.bmp", 97, 15 / 115),
        ("csiq", "CSIQ.txt", "dst_imgs/AWGN/1600.AWGN.1.png", 0.25, 0.75),
        ("tid2013", "TID2013.txt", "distorted_images/i01_01_1.bmp", 4.5, 0.5),
        ("kadid10k", "KADID-10k.txt", "images/I01_01_01.png", 2, 0.25),
        ("clive", "LIVE_Challenge.txt", "Images/3.bmp", 40, 0.4),
        ("spaq", "SPAQ.txt", "TestImage/00003.jpg", 40, 0.4),
    ],
)
def test_waterloos_label_lists(name, file, image, score, mos, tmp_path):
    head = ["dis_img_path", "dis_type", "ref_img_path", "score"]
    table(tmp_path / file, head, [(f"SET/{image}", "JPEG", "SET/refs/I07.png", score)])
    pictures(tmp_path, [image])
    (image,) = load_dataset(name, tmp_path).images
    assert (image.mos, image.subset, image.group) == (pytest.approx(mos), "JPEG", "i07")


def test_csiqs_text_list(tmp_path):
    build("csiq", tmp_path)
    sheets = {image.path: image for image in load_dataset("csiq", tmp_path).images}
    (tmp_path / "csiq.DMOS.xlsx").unlink()
    lines = [f"{image.path.name} {1 - image.mos:.3f}" for image in sheets.values()]
    (tmp_path / "csiq_label.txt").write_text("\n".join(lines))
    assert {image.path: image.mos for image in load_dataset("csiq", tmp_path).images} == pytest.approx(
        {path: image.mos for path, image in sheets.items()}
    )


def test_names_and_folders_that_are_wrong(tmp_path):
    with pytest.raises(NotFound, match="no data set 'koniq'"):
        load_dataset("koniq", tmp_path)
    with pytest.raises(NotFound, match="is not a folder"):
        load_dataset("koniq10k", tmp_path / "nowhere")
