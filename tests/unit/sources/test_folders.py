import os
import socket
from pathlib import Path

import pytest

from dpiqa.sources import folders
from dpiqa.sources.folders import find_files


def write(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def names(folder, found):
    return [path.relative_to(folder).as_posix() for path in found.paths]


def test_files_are_found_by_what_they_are_not(tmp_path):
    write(tmp_path, "b.jpg", "a.jxl", "IMG_1", "c/d.CR2", "c/e.heic", "zip/f.jpg")
    write(tmp_path, "._b.jpg", ".DS_Store", "Thumbs.db", "notes.txt", "c/d.xmp", ".hidden.jpg", ".trash/g.jpg")
    found = find_files(tmp_path)
    assert names(tmp_path, found) == ["IMG_1", "a.jxl", "b.jpg", "c/d.CR2", "c/e.heic", "zip/f.jpg"]
    assert found.passed_over == {"by name no image": 5, "hidden": 2}
    assert found.words() == "by name no image 5, hidden 2"


def test_links_that_lead_nowhere_are_found_and_linked_folders_counted(tmp_path):
    write(tmp_path, "a.jpg", "folder/b.jpg")
    (tmp_path / "dangling.jpg").symlink_to("none.jpg")
    (tmp_path / "ring.jpg").symlink_to("ring.jpg")
    (tmp_path / "again").symlink_to("folder")
    (tmp_path / "up").symlink_to(".")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        found = find_files(tmp_path)
    assert names(tmp_path, found) == ["a.jpg", "dangling.jpg", "ring.jpg", "folder/b.jpg"]
    assert found.passed_over == {"links to folders": 2, "neither files nor folders": 2}


def test_a_folder_that_cannot_be_read_is_found_beside_its_neighbours(tmp_path, monkeypatch):
    write(tmp_path, "a/1.jpg", "b/2.jpg")
    scandir = os.scandir

    def refusing(path):
        if Path(path) == tmp_path / "a":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(folders.os, "scandir", refusing)
    assert names(tmp_path, find_files(tmp_path)) == ["a", "b/2.jpg"]
    with pytest.raises(PermissionError):
        find_files(tmp_path / "a")


def test_names_that_are_not_utf_8_are_found(tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"x")
    assert [os.fsencode(path.name) for path in find_files(tmp_path).paths] == [b"caf\xe9.jpg"]
