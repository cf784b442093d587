"""A rolling restart: processes of the previous release and of this one work on one database at once."""

import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from sqlalchemy import text

from dpiqa.storage import schema
from dpiqa.storage.engine import transaction

PREVIOUS_SCHEMA = "0015"
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


def test_a_rolling_upgrade_from_the_previous_release(make_story, n, previous_release, empty_database_url):
    """Processes of both releases work at once, before and after the migrations."""
    schema.upgrade(empty_database_url, PREVIOUS_SCHEMA)
    story = make_story(database_url=empty_database_url, oracle_url=empty_database_url)
    names = ["listener", "student", "teacher", "student-2"]
    story.keep(*names, PYTHONPATH=str(previous_release))
    story.ready(3)
    story.upload(n, seconds=20)
    story.pause(1, 3)
    schema.upgrade(empty_database_url)
    story.random.shuffle(names)
    for name in names:
        story.pause(1, 3)
        story.replace(name)
    story.finish()


def test_a_process_starts_on_the_tables_of_a_later_release_and_says_so(make_system, database_url, s3):
    system = make_system()
    with transaction(system.engine) as c:
        c.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    worker = system.worker("student")
    system.ready()
    assert "schema_is_newer" in worker.command.log.read_text()
