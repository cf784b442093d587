import os
from dataclasses import replace

import pytest
from support.folder_store import FolderStore

from dpiqa.errors import ConfigurationError, ImageRejected, ObjectChanged, ObjectGone
from dpiqa.types import ImageRef, Reason


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "root"
    for name in ("b.jpg", "a/z.png", "a/ü +.gif", ".hidden", ".git/x.jpg"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    (tmp_path / "secret").write_text("outside")
    return root


def keys(store, prefix="", start_after=None):
    return [ref.key for page in store.list("photos", prefix, start_after) for ref in page]


def test_lists_in_key_order_and_resumes(folder):
    store = FolderStore(folder)
    assert keys(store) == ["a/z.png", "a/ü +.gif", "b.jpg"]
    assert keys(store, "a/") == ["a/z.png", "a/ü +.gif"]
    assert keys(store, "", "a/z.png") == ["a/ü +.gif", "b.jpg"]
    assert keys(store, "none") == []


def test_reads_what_it_listed(folder):
    store = FolderStore(folder)
    for page in store.list("photos", ""):
        for ref in page:
            fetched = store.get(ref, 100)
            assert fetched.data == ref.key.encode()
            assert fetched.etag == ref.etag
            assert fetched.last_modified == ref.last_modified
            assert store.head("photos", ref.key) == ref


def test_sees_changes_and_losses(folder):
    store = FolderStore(folder)
    ref = store.head("photos", "b.jpg")
    (folder / "b.jpg").write_bytes(b"other bytes")
    with pytest.raises(ObjectChanged) as caught:
        store.get(ref, 100)
    assert store.get(caught.value.current, 100).data == b"other bytes"
    assert store.get(replace(ref, etag=""), 100).data == b"other bytes"
    (folder / "b.jpg").unlink()
    with pytest.raises(ObjectGone):
        store.get(ref, 100)


@pytest.mark.parametrize("key", ["a", "b.jpg/x", "none"])
def test_nothing_but_files(folder, key):
    with pytest.raises(ObjectGone):
        FolderStore(folder).get(ImageRef(bucket="photos", key=key, etag=""), 100)


@pytest.mark.parametrize("key", ["../secret", "/etc/passwd", "link"])
def test_nothing_outside(folder, key):
    (folder / "link").symlink_to(folder.parent / "secret")
    with pytest.raises(ImageRejected) as caught:
        FolderStore(folder).get(ImageRef(bucket="photos", key=key, etag=""), 100)
    assert caught.value.reason is Reason.ACCESS_DENIED


def test_links_out_are_listed_so_that_they_end_with_a_reason(folder):
    (folder / "link").symlink_to(folder.parent / "secret")
    assert "link" in keys(FolderStore(folder))


def test_limits(folder):
    (folder / "empty.jpg").touch()
    store = FolderStore(folder)
    for key, reason in (("empty.jpg", Reason.EMPTY), ("b.jpg", Reason.TOO_MANY_BYTES)):
        with pytest.raises(ImageRejected) as caught:
            store.get(ImageRef(bucket="photos", key=key, etag=""), 2)
        assert caught.value.reason is reason


def test_no_folder(tmp_path):
    with pytest.raises(ConfigurationError, match="is not a folder"):
        keys(FolderStore(tmp_path / "none"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_forbidden_files(folder):
    (folder / "b.jpg").chmod(0)
    with pytest.raises(ImageRejected) as caught:
        FolderStore(folder).get(ImageRef(bucket="photos", key="b.jpg", etag=""), 100)
    assert caught.value.reason is Reason.ACCESS_DENIED
