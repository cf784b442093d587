"""`dpiqa datasets`: what a researcher sees before a long run."""

import json

import pytest
from support.datasets import build

from dpiqa.datasets import DATASETS


def test_all_sets_are_listed_and_shown(run):
    listed = json.loads(run("datasets", "list", "--json").stdout)
    assert [spec["name"] for spec in listed] == list(DATASETS)
    assert all(spec["terms"] and spec["layout"] for spec in listed)
    table = run("datasets", "list").stdout
    assert all(name in table for name in DATASETS)
    result = run("datasets", "show", "csiq").stdout
    assert "DMOS" in result
    assert "csiq_label.txt" in result


def test_check_counts_what_is_there(run, tmp_path):
    build("koniq10k", tmp_path / "set")
    ended = run("datasets", "check", "koniq10k", "--data", tmp_path / "set", "--json")
    assert ended.exit_code == 0
    found = json.loads(ended.stdout)
    assert found["splits"] == {"train": 6, "val": 1, "test": 3}
    assert found["histogram"] == [1] * 10
    assert (found["images"], found["published"], found["missing"]) == (10, 10_073, 0)


def test_check_for_people(run, tmp_path):
    build("kadid10k", tmp_path / "set")
    ended = run("datasets", "check", "kadid10k", "--data", tmp_path / "set")
    assert ended.exit_code == 0
    for words in ("10 of 10125 published", "by reference image", "distortion 25", "0 of them on two sides", "####"):
        assert words in ended.stdout


def test_missing_images_are_named_and_end_with_1(run, tmp_path):
    build("biq2021", tmp_path / "set")
    (tmp_path / "set/Images/ss01 (0).jpg").unlink()
    ended = run("datasets", "check", "biq2021", "--data", tmp_path / "set", "--json")
    assert ended.exit_code == 1
    found = json.loads(ended.stdout)
    assert found["missing"] == 1
    assert found["missing_first"][0].endswith("Images/ss01 (0).jpg")


def test_other_splits(run, tmp_path):
    build("koniq10k", tmp_path / "set")
    words = ["datasets", "check", "koniq10k", "--data", tmp_path / "set", "--split", "random", "--seed", 7, "--json"]
    found = json.loads(run(*words).stdout)
    assert found["splits"] == {"train": 8, "test": 2}
    assert found["split"] == "random 80% to train, seed 7"


@pytest.mark.parametrize(("name", "code"), [("koniq10k", 2), ("koniq", 4)])
def test_a_wrong_folder_or_name_is_one_line(run, tmp_path, name, code):
    ended = run("datasets", "check", name, "--data", tmp_path)
    assert ended.exit_code == code
    assert ended.stdout == ""
    assert len(ended.stderr.strip().splitlines()) == 1
