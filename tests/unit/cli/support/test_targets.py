"""Files and folders on the command line."""

import pytest

from dpiqa.addresses import S3Address
from dpiqa.cli.support import targets
from dpiqa.errors import ImageRejected, NotFound, ObjectGone
from dpiqa.objects.store import LocalFiles
from dpiqa.types import ImageRef, Reason


def test_folders_are_searched_for_images(tmp_path, capsys):
    (tmp_path / "b").mkdir()
    for name in ("b/2.JPG", "b/1.png", "a.webp", "notes.txt", "b/.cache"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "b" / "circle").symlink_to(tmp_path)
    (tmp_path / "b" / "gone.jpg").symlink_to(tmp_path / "nowhere")
    places = targets.parse_targets([str(tmp_path), str(tmp_path / "notes.txt"), str(tmp_path / "a.webp")])
    names = [ref.key.removeprefix(f"{tmp_path}/") for ref in targets.local_refs(places)]
    assert names == ["a.webp", "b/1.png", "b/2.JPG", "b/gone.jpg", "notes.txt"]
    printed = f"passed over in {tmp_path}: by name no image 1, hidden 1, links to folders 1"
    assert " ".join(capsys.readouterr().err.split()) == printed


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


def test_objects_that_are_by_name_no_images_are_passed_over_and_counted(capsys):
    address = S3Address("photos", "in")
    found = targets.s3_refs(Bucket("in/a.jpg", "in/._a.jpg", "in/.DS_Store", "in/b.jxl"), address)
    assert [ref.key for ref in found] == ["in/a.jpg", "in/b.jxl"]
    assert "passed over under s3://photos/in: by name no image 2" in capsys.readouterr().err
    with pytest.raises(NotFound, match="no image is under"):
        list(targets.s3_refs(Bucket("in/Thumbs.db"), address))
