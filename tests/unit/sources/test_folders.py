import os
import socket
from pathlib import Path

import pytest
from support.photos import jpeg, png

from dpiqa.sources import folders
from dpiqa.sources.folders import PassedOver, find_files


def write(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def names(folder, passed_over=None, **options):
    return [path.relative_to(folder).as_posix() for path in find_files(folder, passed_over, **options)]


def test_files_are_found_by_what_they_are_not(tmp_path):
    write(tmp_path, "b.jpg", "a.jxl", "IMG_1", "c/d.CR2", "c/e.heic", "zip/f.jpg")
    write(tmp_path, "._b.jpg", ".DS_Store", "Thumbs.db", "notes.txt", "c/d.xmp", ".hidden.jpg", ".trash/g.jpg")
    passed_over = PassedOver()
    assert names(tmp_path, passed_over) == ["IMG_1", "a.jxl", "b.jpg", "c/d.CR2", "c/e.heic", "zip/f.jpg"]
    assert passed_over.counts == {".db": 1, ".txt": 1, ".xmp": 1, "side-cars ._*": 1, "hidden": 3}
    assert passed_over.words() == "not images 3 (.db 1, .txt 1, .xmp 1), hidden 3, side-cars ._* 1"


def test_an_image_is_one_by_its_bytes_whatever_its_name(tmp_path):
    write(tmp_path, "notes.txt")
    (tmp_path / "renamed.txt").write_bytes(png(0.5))
    (tmp_path / "photo.bak").write_bytes(jpeg(0.5, (20, 20)))
    assert names(tmp_path) == ["photo.bak", "renamed.txt"]


def test_folders_in_folders_may_be_left_out(tmp_path):
    write(tmp_path, "a.jpg", "folder/b.jpg")
    passed_over = PassedOver()
    assert names(tmp_path, passed_over, recursive=False) == ["a.jpg"]
    assert passed_over.counts == {"folders": 1}


def test_links_that_lead_nowhere_are_found_and_linked_folders_counted(tmp_path):
    write(tmp_path, "a.jpg", "folder/b.jpg")
    (tmp_path / "dangling.jpg").symlink_to("none.jpg")
    (tmp_path / "ring.jpg").symlink_to("ring.jpg")
    (tmp_path / "again").symlink_to("folder")
    (tmp_path / "up").symlink_to(".")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        passed_over = PassedOver()
        found = names(tmp_path, passed_over)
    assert found == ["a.jpg", "dangling.jpg", "ring.jpg", "folder/b.jpg"]
    assert passed_over.counts == {"links to folders": 2, "neither files nor folders": 2}


def test_a_folder_that_cannot_be_read_is_found_beside_its_neighbours(tmp_path, monkeypatch):
    write(tmp_path, "a/1.jpg", "b/2.jpg")
    scandir = os.scandir

    def refusing(path):
        if Path(path) == tmp_path / "a":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(folders.os, "scandir", refusing)
    assert names(tmp_path) == ["a", "b/2.jpg"]
    with pytest.raises(PermissionError):
        next(find_files(tmp_path / "a"))


def test_names_that_are_not_utf_8_are_found(tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"x")
    assert [os.fsencode(path.name) for path in find_files(tmp_path)] == [b"caf\xe9.jpg"]
