"""Every command is explained, in the program and in the documents."""

import importlib.util
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from dpiqa import __version__, provenance
from dpiqa.cli.main import app
from dpiqa.cli.support.groups import LazyCommand
from dpiqa.settings import Settings

DOCS = Path(__file__).resolve().parents[3] / "docs"
PROCESSES = {"worker", "listen", "api", "flower", "demo"}  # these show what they do on the way, not one answer


def reference():
    spec = importlib.util.spec_from_file_location("make_reference", DOCS / "make_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


COMMANDS = list(reference().commands())
NAMES = [" ".join(words) for words, _ in COMMANDS]


def test_the_promised_commands_exist():
    promised = ["score", "submit", "follow", "items", "scores", "doctor", "demo", "listen", "worker", "api"]
    promised += [
        "evaluate scores",
        "evaluate compare",
        "evaluate routing",
        "evaluate escalation",
        "evaluate distortions",
        "evaluate invariance",
        "explain",
        "lookup",
        "flower",
    ]
    promised += ["local up", "local status", "local down", "db upgrade", "db current", "config show", "train student"]
    promised += ["models list", "models show", "models verify", "profiles list", "profiles show"]
    promised += [
        f"jobs {name}" for name in ("list", "show", "pause", "resume", "cancel", "retry", "priority", "delete")
    ]
    promised += [f"requirements {name}" for name in ("create", "prepare", "list", "show")]
    assert {f"dpiqa {name}" for name in promised} <= set(NAMES)


@pytest.mark.parametrize(("words", "command"), COMMANDS, ids=NAMES)
def test_help_explains_with_an_example(run, words, command):
    result = run(*words[1:], "--help")
    assert result.exit_code == 0
    assert "dpiqa " + " ".join(words[1:]) in result.stdout.partition("Example")[2]
    assert all(parameter.help for parameter in command.params if parameter.name != "help")


@pytest.mark.parametrize(("words", "command"), COMMANDS, ids=NAMES)
def test_values_are_named_in_one_style(run, words, command):
    shown = run(*words[1:], "--help").stdout.replace("<bool>", "", 1)  # of --help itself, which typer adds
    assert not re.findall(r"<(?:str|int|bool|float|path|list)|\{[a-z_]+\}", shown)
    for parameter in command.params:
        if parameter.name != "help" and parameter.metavar and "|" not in parameter.metavar:
            assert parameter.metavar == parameter.metavar.upper(), parameter.name


@pytest.mark.parametrize(("words", "command"), COMMANDS, ids=NAMES)
def test_json_everywhere(words, command):
    options = {name for parameter in command.params for name in parameter.opts}
    assert ("--json" in options) is (words[1] not in PROCESSES)


def test_examples_are_accepted_by_the_parser():
    for words, command in COMMANDS:
        for line in command.epilog.split("\n\n")[1:]:
            given = line.split()
            assert given[: len(words)] == words
            options = {name for parameter in command.params for name in parameter.opts}
            assert {word for word in given if word.startswith("--")} <= options, line


def test_exit_codes_are_in_the_help(run):
    text = " ".join(run("--help").stdout.split())
    for code in ("0 done", "1 some images", "2 wrong usage", "3 Postgres", "4 not found", "78 a setting", "130 Ctrl-C"):
        assert code in text


@pytest.mark.parametrize("page", ["api", "architecture", "cli", "configuration", "datasets", "schemas", "database"])
def test_pages_are_those_of_the_program(page):
    made = getattr(reference(), f"{page}_page")()
    assert (DOCS / f"{page}.md").read_text("utf-8") == made, "run `make docs`"


def test_the_man_page_is_that_of_the_program_and_is_formatted_without_warnings():
    file = DOCS / "man" / "dpiqa.1"
    assert file.read_text("utf-8") == reference().man_page(), "run `make docs`"
    if shutil.which("man") is None:
        pytest.skip("man is not installed")
    environment = {**os.environ, "MANWIDTH": "100", "LC_ALL": "C.UTF-8", "MAN_KEEP_FORMATTING": ""}
    shown = subprocess.run(
        ["man", "--warnings", "--local-file", file], capture_output=True, text=True, check=True, env=environment
    )
    assert shown.stderr == ""
    text = re.sub(".\\x08", "", shown.stdout)
    assert all(f"   {name}\n" in text for name in NAMES)
    assert "dpiqa score ~/Pictures --output scores.csv --resume" in text


def test_every_setting_and_command_has_its_words():
    assert all(field.description for field in Settings.model_fields.values())
    text = reference().cli_page()
    assert all(f"\n## {name}\n" in text for name in NAMES)


def lazy_commands(group, words=("dpiqa",)):
    """Every command that is imported when it runs, with its words."""
    for name, command in group.commands.items():
        if isinstance(command, LazyCommand):
            yield (*words, name), command
        else:
            yield from lazy_commands(command, (*words, name))


LAZY = list(lazy_commands(get_command(app)))


@pytest.mark.parametrize(("words", "command"), LAZY, ids=[" ".join(words) for words, _ in LAZY])
def test_a_group_lists_the_help_that_the_command_has(words, command):
    loaded = command.load()
    assert loaded.name == words[-1]
    assert command.help == loaded.help.partition("\n\n")[0]
    assert command.hidden == loaded.hidden


def test_every_command_is_lazy_and_shown_in_the_order_of_the_table():
    assert [" ".join(words) for words, command in LAZY if not command.hidden] == NAMES


def imported_by(*words):
    """Modules that a command line imports, run in a process of its own."""
    code = (
        "import sys\n"
        "from dpiqa.cli.main import app\n"
        "try:\n    app(sys.argv[1:])\n"
        "except SystemExit as end:\n    assert end.code in (0, 78), end.code\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in done.stderr.splitlines()[-1].split()}


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["models", "--help"], ["evaluate", "--help"]], ids=" ".join
)
def test_help_waits_for_nothing_heavy(words):
    heavy = {"boto3", "sqlalchemy", "torch", "pyarrow", "celery", "redis", "numpy", "PIL", "scipy"}
    assert not heavy & imported_by(*words)


def test_the_list_of_commands_waits_for_no_library_but_that_of_the_command_line():
    assert not {"asyncio", "pydantic", "structlog", "email"} & imported_by("--help")


@pytest.mark.parametrize(
    "words",
    [
        ["jobs"],
        ["scores"],
        ["score", "--help"],
        ["models", "list"],
        ["train", "student", "--help"],
        ["evaluate", "scores", "--help"],
    ],
    ids=" ".join,
)
def test_a_command_does_not_wait_for_torch_to_start(words):
    assert not {"torch", "timm", "diffusers", "transformers", "pyarrow", "matplotlib"} & imported_by(*words)


def test_only_commands_that_run_networks_need_an_extra_to_be_imported():
    code = (
        "import importlib, sys, dpiqa.cli.main; from dpiqa.extras import EXTRA_OF_MODULE;"
        "sys.modules.update(dict.fromkeys(EXTRA_OF_MODULE));"
        "[importlib.import_module(name) for name in sys.argv[1:]]"
    )
    modules = {inspect.unwrap(command.callback).__module__ for words, command in COMMANDS}
    on_base = sorted(name for name in modules if not name.startswith("dpiqa.cli.evaluate"))
    on_base = [name for name in on_base if name not in {"dpiqa.cli.models.reference", "dpiqa.cli.scores.explain"}]
    done = subprocess.run(
        [sys.executable, "-c", code, *on_base], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


def test_version(run):
    commit = provenance.commit()  # of this checkout; none in an archive without git
    assert run("--version").stdout == f"dpiqa {__version__}" + (f" (commit {commit})\n" if commit else "\n")


def documented_commands():
    """Every `dpiqa ...` of the documents' consoles, as words; comments and what follows `&` or a pipe left out."""
    for page in [DOCS.parent / "README.md", DOCS.parent / "CONTRIBUTING.md", *DOCS.glob("*.md")]:
        text = re.sub(r"\\\n\s*", " ", page.read_text("utf-8"))
        for line in re.findall(r"^\$ (.*)$", text, re.MULTILINE):
            for command in re.findall(r"(?:^|bin/|[&|;] *)dpiqa ([^#&|;]+)", line):
                yield pytest.param(command.split(), id=f"{page.name}: {command.strip()}")


@pytest.mark.parametrize("words", list(documented_commands()))
def test_commands_in_the_documents_exist(words):
    tree = {" ".join(name[1:]): command for name, command in COMMANDS}
    if words == ["--version"]:
        return  # of the program itself; `test_version` asks for it
    depth = next((n for n in (3, 2, 1) if " ".join(words[:n]) in tree), None)
    assert depth, "no such command"
    parameters = tree[" ".join(words[:depth])].params
    options = {option for parameter in parameters for option in [*parameter.opts, *parameter.secondary_opts]}
    assert {word.partition("=")[0] for word in words if word.startswith("-") and word != "-"} <= options


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("dpiqa score -m bundled-s", ["bundled-student"]),
        ("dpiqa models verify bundled-teacher bundled-s", ["bundled-student"]),
        ("dpiqa evaluate compare bundled-teacher bundled-s", ["bundled-student"]),
        ("dpiqa requirements create portraits --model bundled-s", ["bundled-student"]),
        ("dpiqa profiles show smok", ["smoke", "smoke@1"]),
        ("dpiqa scores --profile smok", ["smoke", "smoke@1"]),
        ("dpiqa train student --preset bundled-t", ["bundled-tiny", "bundled-tiny-distilled"]),
    ],
)
def test_the_shell_completes_names(words, offered):
    given = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" ")), "_DPIQA_COMPLETE": "complete_bash"}
    argv = [sys.executable, "-c", "from dpiqa.cli.main import app; app(prog_name='dpiqa')"]
    done = subprocess.run(argv, env=os.environ | given, capture_output=True, text=True, timeout=60, check=False)
    assert (sorted(done.stdout.split()), done.stderr) == (offered, "")
