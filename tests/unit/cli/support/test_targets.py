"""Files and folders on the command line."""

import pytest

from dpiqa.cli.support import targets
from dpiqa.errors import ImageRejected, ObjectGone
from dpiqa.objects.store import LocalFiles
from dpiqa.types import ImageRef, Reason


def test_folders_are_searched_for_images(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("b/2.JPG", "b/1.png", "a.webp", "notes.txt", "b/.cache"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "b" / "circle").symlink_to(tmp_path)
    (tmp_path / "b" / "gone.jpg").symlink_to(tmp_path / "nowhere")
    places = targets.parse_targets([str(tmp_path), str(tmp_path / "notes.txt"), str(tmp_path / "a.webp")])
    names = [ref.key.removeprefix(f"{tmp_path}/") for ref in targets.local_refs(places)]
    assert names == ["a.webp", "b/1.png", "b/2.JPG", "notes.txt"]


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
