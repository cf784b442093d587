"""A rolling restart: processes of the previous release and of this one work on one database at once."""

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

PREVIOUS = "ca4f4707c2"  #: a commit of the previous release
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def previous_release(tmp_path_factory):
    """Give a folder with the packages of the previous release, as its wheel lays them out."""
    folder = tmp_path_factory.mktemp("previous")
    command = ["git", "-C", str(ROOT), "archive", PREVIOUS, "dpiqa", "api", "workers", "migrations"]
    archive = subprocess.run(command, check=False, capture_output=True)
    if archive.returncode:
        pytest.skip("the history of this checkout does not reach the previous release")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    for name in ("api", "workers", "migrations"):
        (folder / name).rename(folder / "dpiqa" / name)
    return folder


def test_a_rolling_restart_from_the_previous_release(story, n, previous_release):
    names = ["listener", "student", "teacher", "student-2"]
    story.keep(*names, PYTHONPATH=str(previous_release))
    story.ready(3)
    story.upload(n, seconds=15)
    story.random.shuffle(names)
    for name in names:
        story.pause(1, 3)
        story.replace(name)
    story.finish()
