"""The command line in real terminals, pipes and files: every case in processes of its own, as a shell starts them."""

import inspect
import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.photos import png
from typer.main import get_command

from dpiqa.cli.main import app
from dpiqa.cli.support.groups import LazyCommand, _holds_path
from dpiqa.exit_codes import ExitCode, SignalExitCode
from dpiqa.settings import load_settings

#: A terminal that shows ASCII only, and a Python that does not know better.
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
DPIQA = (sys.executable, "-m", "dpiqa.cli")


def commands(group, words=()):
    for name, command in group.commands.items():
        if isinstance(command, LazyCommand):
            yield (*words, name), command
        else:
            yield from commands(command, (*words, name))


COMMANDS = list(commands(get_command(app)))


def start(*words, env=None, **options):
    return subprocess.Popen(
        [*DPIQA, *map(str, words)],
        env={**os.environ, "DPIQA_DECODE_PROCESSES": "1", **(env or {})},
        **{"stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE, **options},
    )


def ended(process):
    out, err = process.communicate(timeout=60)
    assert b"Traceback" not in err, err.decode()
    return process.returncode, out, err


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="arenas are glibc's")
@pytest.mark.parametrize("command", ["score", "bench"])
def test_threads_share_one_arena_unless_the_environment_says_otherwise(tmp_path, command):
    program = """
import os, sys
from dpiqa.cli.main import app
from support.processes import own_arenas
try:
    app([*sys.argv[1:], "--model", "brightness"], prog_name="dpiqa")
finally:
    sys.stderr.write(f"arenas: {own_arenas(os.getpid())}")
"""
    (tmp_path / "a.png").write_bytes(png(0.5))
    env = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    env |= {"PYTHONPATH": str(Path(__file__).parents[2]), "DPIQA_DECODE_PROCESSES": "1"}
    found = []
    for more in ({}, {"MALLOC_ARENA_MAX": "8"}):
        argv = [sys.executable, "-c", program, command, tmp_path / "a.png"]
        done = subprocess.run(argv, env=env | more, capture_output=True, text=True, timeout=60, check=True)
        found.append(int(done.stderr.rpartition("arenas: ")[2]))
    assert found[0] == 0
    assert found[1] > 0


def test_the_help_of_every_command_can_be_shown_in_ascii():
    program = """
import json, sys
from dpiqa.cli.main import app
from dpiqa.cli.support import terminal
terminal._prepare("stdout")
for words in json.loads(sys.argv[1]):
    try:
        app([*words, "--help"], prog_name="dpiqa")
    except SystemExit as end:
        assert not end.code, words
"""
    words = json.dumps([words for words, _ in COMMANDS])
    done = subprocess.run(
        [sys.executable, "-c", program, words], env={**os.environ, **ASCII}, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode("ascii").count("Usage:") == len(COMMANDS)


@pytest.mark.parametrize("words", [("profiles", "show", "with-teacher"), ("models", "list"), ("datasets", "list")])
def test_what_the_encoding_lacks_is_written_in_other_words(words):
    code, out, _ = ended(start(*words, env=ASCII, stdout=subprocess.PIPE))
    assert code == 0
    text = out.decode("ascii")
    assert ("0.35 +- 0.05" in text) is (words[1] == "show")
    assert "\\x" not in text


@pytest.fixture
def odd_names(tmp_path):
    folder = tmp_path / "odd"
    folder.mkdir()
    for name in (b"caf\xe9.png", "gr\u00fcn.png".encode(), b"\x1b[31mred.png", "\u202egnp.png".encode(), b"a\nb.png"):
        Path(os.fsdecode(os.path.join(os.fsencode(folder), name))).write_bytes(png(0.5))  # noqa: PTH118
    for name in ("._a.png", ".DS_Store", "Thumbs.db"):
        (folder / name).write_bytes(b"x")
    return folder


@pytest.mark.parametrize("env", [ASCII, {"LC_ALL": "C"}, {"LC_ALL": "C.UTF-8"}], ids=["ascii", "C", "UTF-8"])
def test_names_that_cannot_be_shown_are_scored_and_escaped(odd_names, env):
    code, out, err = ended(start("score", odd_names, "--model", "brightness", env=env, stdout=subprocess.PIPE))
    assert code == 0
    assert b"\\x1b[31mred.png" in out
    assert b"a\\nb.png" in out
    assert not set(out) & {0x1B, 0x9B}
    assert b"5 of 5 images scored" in err
    assert b"passed over: not images 1 (.db 1), hidden 1, side-cars ._* 1" in err


def test_links_that_lead_nowhere_are_reported_and_the_exit_code_says_so(odd_names):
    (odd_names / "dangling.png").symlink_to("nowhere")
    code, out, _ = ended(start("score", odd_names, "--model", "brightness", "--json", stdout=subprocess.PIPE))
    assert code == ExitCode.INCOMPLETE
    (missing,) = [row for row in json.loads(out) if row["score"] is None]
    assert missing["detail"].endswith("dangling.png is a link that leads nowhere")


@pytest.mark.parametrize(
    "words", [("--help",), ("models", "--help"), ("profiles", "list"), ("models", "list", "--json"), ("--version",)]
)
def test_a_reader_that_goes_away_ends_a_command_quietly(words):
    reader, writer = os.pipe()
    os.close(reader)
    process = start(*words, stdout=writer)
    os.close(writer)
    code, _, err = ended(process)
    assert (code, err) == (SignalExitCode.PIPE_CLOSED, b"")


@pytest.mark.parametrize("words", [("--help",), ("profiles", "list"), ("models", "list", "--json")])
def test_a_full_disk_is_one_line(words):
    with Path("/dev/full").open("wb") as full:
        code, _, err = ended(start(*words, stdout=full))
    assert code == ExitCode.CONFIGURATION
    assert (err.count(b"\n"), b"No space left on device" in err) == (1, True)


def test_what_stderr_cannot_take_fails_no_command(odd_names):
    with Path("/dev/full").open("wb") as full:
        process = start("score", odd_names, "--model", "brightness", "--json", stdout=subprocess.PIPE, stderr=full)
        out, _ = process.communicate(timeout=60)
    assert (process.returncode, len(json.loads(out))) == (0, 5)


def test_closed_streams_are_no_fault():
    line = '"$0" -m dpiqa.cli profiles list --json >&-; echo $?; "$0" -m dpiqa.cli profiles list --json 2>&- | wc -l'
    done = subprocess.run(["sh", "-c", line, sys.executable], capture_output=True, text=True, check=False)
    code, lines = done.stdout.split()
    assert (code, done.stderr) == ("0", "")
    assert int(lines) > 3


@pytest.mark.parametrize("seconds", [0.02, 0.2, 0.5])
def test_ctrl_c_while_it_starts_leaves_no_traceback(seconds):
    program = "import dpiqa.cli.__main__ as m; print('ready', flush=True); m.main()"
    command = [sys.executable, "-c", program, "models", "list"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    code, _, err = ended(process)
    assert code in (-signal.SIGINT, SignalExitCode.INTERRUPTED, 0)
    assert err == b""


@pytest.mark.parametrize(
    "words",
    [
        ("\x1b[31mbad",),
        ("score", "--no\x1b[31mpe=1"),
        ("jobs", "list", "--state", "\x1b[1m"),
        ("score", "no\u202ename.jpg"),
        ("scores", "--limit", "\x07x"),
        ("models", "show", "\x9b31m"),
        ("lookup", "\x1b]0;title\x07"),
    ],
)
def test_words_of_the_command_line_cannot_act_on_the_terminal(run, words):
    result = run(*words)
    assert result.exit_code in (2, 4, 78)
    assert not set(result.stderr) & set("\x1b\x07\x9b\u202e")


def test_every_path_of_the_command_line_may_begin_with_a_tilde():
    found = 0
    for words, command in COMMANDS:
        loaded = command.load()
        kinds = inspect.signature(
            loaded.callback.__wrapped__ if hasattr(loaded.callback, "__wrapped__") else loaded.callback
        )
        for parameter in loaded.params:
            kind = kinds.parameters.get(parameter.name)
            if kind is not None and _holds_path(kind.annotation):
                found += 1
                assert parameter.consume_value.__module__ == "dpiqa.cli.support.groups", (words, parameter.opts)
    assert found >= 40


@pytest.mark.parametrize(
    "words",
    [
        ("validate", "~/none/x.csv"),
        ("datasets", "check", "csv", "--data=~/none/x.csv"),
        ("score", "~/none/x.csv", "--model", "brightness"),
        ("scores", "--output=~/none/x.csv"),
        ("scores", "--output=~/none/x", "--partition-by", "day"),
        ("models", "import", "~/none/x.pth", "--name", "x", "--kind", "student"),
    ],
    ids=" ".join,
)
def test_a_tilde_is_the_home_folder(run, monkeypatch, tmp_path, words):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "400")
    result = run(*words)
    assert result.exit_code in (2, 4, 78)
    assert f"{tmp_path}/none" in result.stderr


def test_a_tilde_in_settings_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in {
        "MODELS_DIR": "~/m",
        "PROFILES_DIR": "~/p",
        "HOME": "~/h",
        "FOLDERS": "~/a:/b:~nobody9/c",
    }.items():
        monkeypatch.setenv(f"DPIQA_{name}", value)
    settings = load_settings()
    assert [settings.models_dir, settings.profiles_dir, settings.home] == [tmp_path / name for name in "mph"]
    assert settings.folder_paths == (tmp_path / "a", Path("/b"), Path("~nobody9/c"))
