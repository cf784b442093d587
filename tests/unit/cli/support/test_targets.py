"""Files and folders on the command line."""

import os
from datetime import UTC, datetime

import pytest

from dpiqa.addresses import S3Address
from dpiqa.cli.support import targets
from dpiqa.errors import ImageRejected, InvalidRequest, NotFound, ObjectGone
from dpiqa.objects.store import LocalFiles
from dpiqa.sources.folders import PassedOver
from dpiqa.types import ImageRef, Reason


def found(folder, *words, passed_over=None, **options):
    refs = targets.parse_targets([*map(str, words)], **options).refs(passed_over)
    return [ref.key.removeprefix(f"{folder}/") for ref in refs]


def test_folders_are_searched_for_images(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("b/2.JPG", "b/1.png", "a.webp", "notes.txt", "b/.cache"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "b" / "circle").symlink_to(tmp_path)
    (tmp_path / "b" / "gone.jpg").symlink_to(tmp_path / "nowhere")
    passed_over = PassedOver()
    names = found(tmp_path, tmp_path, tmp_path / "notes.txt", tmp_path / "a.webp", passed_over=passed_over)
    assert names == ["a.webp", "b/1.png", "b/2.JPG", "b/gone.jpg", "notes.txt"]
    assert passed_over.words() == "not images 1 (.txt 1), hidden 1, links to folders 1"


def test_a_file_has_its_size_and_time(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"12345")
    os.utime(tmp_path / "a.jpg", ns=(0, 1_700_000_000_123_456_789))
    (ref,) = targets.parse_targets([str(tmp_path)]).refs()
    assert (ref.size, ref.last_modified) == (5, datetime(2023, 11, 14, 22, 13, 20, 123456, UTC))


def test_globs_choose_in_folders_only(tmp_path):
    for name in ("a.jpg", "b.png", "out/c.jpg", "out/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    passed_over = PassedOver()
    only = targets.Filters(include=["*.jpg"], exclude=["out/*"])
    assert found(tmp_path, tmp_path, filters=only, passed_over=passed_over) == ["a.jpg"]
    assert passed_over.counts["left out by --include or --exclude"] == 3
    assert found(tmp_path, tmp_path / "b.png", filters=only) == ["b.png"]
    assert found(tmp_path, tmp_path, filters=targets.Filters(recursive=False)) == ["a.jpg", "b.png"]
    with pytest.raises(NotFound, match="no images are in"):
        found(tmp_path, tmp_path, filters=targets.Filters(include=["*.tif"]))


@pytest.mark.parametrize("text", ["b.jpg\na b.jpg\r\n\n", "b.jpg\0a b.jpg\0"], ids=["lines", "NUL"])
def test_lists(tmp_path, text):
    (tmp_path / "list").write_bytes(text.encode())
    listed = targets.parse_targets([], list_file=str(tmp_path / "list"))
    assert [ref.key for ref in listed.refs()] == ["b.jpg", "a b.jpg"] == [ref.key for ref in listed.refs()]
    assert targets.list_is_s3(tmp_path / "list") is False


def test_lists_that_cannot_be(tmp_path):
    (tmp_path / "mixed").write_text("a.jpg\ns3://photos/a.jpg\n")
    (tmp_path / "empty").write_text("\n")
    for name in ("mixed", "empty"):
        with pytest.raises(InvalidRequest):
            targets.list_is_s3(tmp_path / name)
    with pytest.raises(NotFound):
        targets.parse_targets([], list_file=str(tmp_path / "none"))
    (tmp_path / "bucket").write_text("s3://photos/\n")
    with pytest.raises(InvalidRequest, match="names a bucket"):
        list(targets.parse_targets([], list_file=str(tmp_path / "bucket")).refs())


def test_local_files_fail_one_by_one(tmp_path):
    files = LocalFiles()
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "big").write_bytes(b"12345")

    def get(name):
        return files.get(ImageRef(bucket="", key=str(tmp_path / name), etag=""), 4)

    with pytest.raises(ObjectGone):
        get("nowhere")
    with pytest.raises(ImageRejected) as empty:
        get("empty")
    with pytest.raises(ImageRejected) as big:
        get("big")
    assert (empty.value.reason, big.value.reason) == (Reason.EMPTY, Reason.TOO_MANY_BYTES)
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(ObjectGone, match="leads nowhere"):
        get("link")


class Bucket:
    """A store of named objects, of which `head` knows none."""

    def __init__(self, *keys):
        self._refs = [ImageRef(bucket="photos", key=key, etag="e") for key in keys]

    def head(self, bucket, key):
        raise ObjectGone(key)

    def list(self, bucket, prefix):
        yield self._refs


def test_objects_that_are_by_name_no_images_are_passed_over_and_counted():
    address, passed_over = S3Address("photos", "in"), PassedOver()
    bucket = Bucket("in/a.jpg", "in/._a.jpg", "in/.DS_Store", "in/b.jxl", "in/more/c.jpg")
    refs = targets.s3_refs(bucket, address, targets.Filters(recursive=False), passed_over)
    assert [ref.key for ref in refs] == ["in/a.jpg", "in/b.jxl"]
    assert passed_over.words() == "not images 2 (.jpg 1, .ds_store 1), in folders 1"
    with pytest.raises(NotFound, match="no image is under"):
        list(targets.s3_refs(Bucket("in/Thumbs.db"), address))
