"""Atomic file replacement, and locks between processes."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from dpiqa.errors import ConfigurationError, InvalidRequest
from dpiqa.files import locked, locked_folder, replace_file, replace_text

HOLD = """
import sys, time
from pathlib import Path
from dpiqa.files import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock `lock` in the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "locked\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path):
    file = tmp_path / "state.json"
    file.write_text("old")
    assert replace_text(file, "nëw") == file
    assert file.read_text("utf-8") == "nëw"
    assert names(tmp_path) == ["state.json"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    def fail(partial):
        partial.write_text("half")
        raise ValueError("the disk is full")

    file = tmp_path / "state.json"
    file.write_text("old")
    with pytest.raises(ValueError, match="full"):
        replace_file(file, fail)
    assert file.read_text() == "old"
    assert names(tmp_path) == ["state.json"]


def test_a_private_file_is_never_readable_by_others(tmp_path):
    modes = []

    def write(partial):
        modes.append(partial.stat().st_mode & 0o777)
        partial.write_text("secret")

    file = tmp_path / "password"
    file.write_text("old")
    file.chmod(0o644)
    (tmp_path / f"password.partial-{os.getpid()}").write_text("of an earlier process with this id")
    replace_file(file, write, private=True)
    assert [*modes, file.stat().st_mode & 0o777] == [0o600, 0o600]
    assert file.read_text() == "secret"


def test_a_lock_that_another_process_holds(tmp_path, holder):
    with pytest.raises(InvalidRequest, match="another process is using"), locked(tmp_path / "lock", wait=False):
        pass
    busy = ConfigurationError("it runs already")
    with pytest.raises(ConfigurationError, match="runs already"), locked(tmp_path / "lock", wait=False, busy=busy):
        pass


def test_the_lock_of_a_killed_process_is_free_for_those_who_wait(tmp_path, holder):
    threading.Timer(0.3, holder.send_signal, [signal.SIGKILL]).start()
    with locked(tmp_path / "lock"):
        assert holder.wait() == -signal.SIGKILL


def test_a_lock_file_that_is_removed_at_the_end_still_excludes(tmp_path):
    """Threads that waited on the removed file must not count it as the lock."""
    inside, most = [], []

    def work():
        for _ in range(20):
            with locked(tmp_path / "lock", remove=True):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 60
    assert max(most) == 1
    assert names(tmp_path) == []


def test_unfinished_files_are_removed_under_the_lock_of_their_folder(tmp_path):
    folder = tmp_path / "new" / "folder"
    with locked_folder(folder):
        (folder / "weights.partial-1").write_bytes(b"half")
    with locked_folder(folder, name="lock"):
        assert names(folder) == ["lock"]


def test_a_device_or_pipe_is_written_to_and_stays(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert replace_text(pipe, "rows") == pipe
        assert os.read(reader, 100) == b"rows"
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    assert names(tmp_path) == ["pipe"]


def test_a_symbolic_link_stays_and_what_it_names_is_replaced(tmp_path):
    (tmp_path / "data").mkdir()
    link = tmp_path / "latest.csv"
    link.symlink_to("data/monday.csv")
    for text in ("made", "replaced"):
        assert replace_text(link, text) == link
        assert link.is_symlink()
        assert (tmp_path / "data" / "monday.csv").read_text() == text
    assert names(tmp_path / "data") == ["monday.csv"]
