"""Links and folders that cannot be read are listed, and say so when they are read."""

import os
from pathlib import Path

import pytest

from dpiqa.addresses import folder_bucket
from dpiqa.errors import ConfigurationError, ImageRejected, ObjectGone
from dpiqa.objects import folder as folders
from dpiqa.objects.folder import FolderStore
from dpiqa.objects.store import LocalFiles
from dpiqa.sources.opening import open_source
from dpiqa.sources.selection import select
from dpiqa.sources.spec import SourceSpec, Tally
from dpiqa.types import ImageRef, JobKind, Reason


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "a").mkdir(parents=True)
    for name in ("a/1.jpg", "2.jpg"):
        (folder / name).write_bytes(b"picture")
    return folder


@pytest.fixture
def unreadable(monkeypatch):
    """A function that makes a folder unreadable, for root too."""
    closed, scandir = set(), os.scandir

    def refusing(path):
        if Path(path) in closed:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(folders.os, "scandir", refusing)
    return closed.add


def keys(store, folder, **options):
    return [ref.key for page in store.list(folder_bucket(folder), "", **options) for ref in page]


def refusal(store, folder, key):
    with pytest.raises(ImageRejected) as caught:
        store.get(ImageRef(bucket=folder_bucket(folder), key=key, etag=""), 100)
    return caught.value


def test_a_folder_that_cannot_be_read_is_listed_beside_what_can(photos, unreadable):
    store = FolderStore([photos])
    unreadable(photos / "a")
    assert keys(store, photos) == ["2.jpg", "a/."]
    assert refusal(store, photos, "a/.").reason is Reason.ACCESS_DENIED
    assert keys(store, photos, start_after="a/.") == []
    unreadable(photos)
    with pytest.raises(ConfigurationError, match="Permission denied"):
        keys(store, photos)


def test_links_that_lead_nowhere_or_out_are_listed_and_say_so(photos, tmp_path):
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (photos / "dangling.jpg").symlink_to(photos / "none.jpg")
    (photos / "out.jpg").symlink_to(tmp_path / "secret.jpg")
    (photos / "ring.jpg").symlink_to(photos / "ring.jpg")
    (photos / "fine.jpg").symlink_to(photos / "2.jpg")
    (photos / "folder").symlink_to(photos / "a")
    (photos / "outside").symlink_to(tmp_path)
    store = FolderStore([photos])
    listed = {ref.key: ref.etag for page in store.list(folder_bucket(photos), "") for ref in page}
    assert sorted(listed) == ["2.jpg", "a/1.jpg", "dangling.jpg", "fine.jpg", "out.jpg", "ring.jpg"]
    assert [key for key, etag in listed.items() if not etag] == ["dangling.jpg", "out.jpg", "ring.jpg"]
    assert "out of the folder" in refusal(store, photos, "out.jpg").message
    assert refusal(store, photos, "../secret.jpg").reason is Reason.ACCESS_DENIED
    for key, message in (("dangling.jpg", "gone"), ("ring.jpg", "a link that leads in a circle")):
        with pytest.raises(ObjectGone, match=message):
            store.get(ImageRef(bucket=folder_bucket(photos), key=key, etag=""), 100)
    with pytest.raises(ObjectGone, match="circle"):
        LocalFiles().get(ImageRef(bucket="", key=str(photos / "ring.jpg"), etag=""), 100)


def test_apples_files_are_counted_and_hidden_ones_left_out(photos):
    for name in ("._2.jpg", ".DS_Store", "Thumbs.db", ".hidden.jpg", "a/._1.jpg"):
        (photos / name).write_bytes(b"x")
    (photos / ".trash").mkdir()
    (photos / ".trash/3.jpg").write_bytes(b"x")
    spec = SourceSpec()
    source = open_source(FolderStore([photos]), JobKind.FOLDER, folder_bucket(photos), "", spec)
    *_, last = select(source, spec, None, Tally())
    assert (last.tally.taken, last.tally.passed_over) == (2, {"name": 4})
