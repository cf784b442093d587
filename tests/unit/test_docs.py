"""The pages: each is on the site, and what they show can be typed."""

import ast
import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer
import yaml
from typer.core import TyperGroup

from dpiqa.cli.main import app
from dpiqa.errors import NotFound

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
#: Words that end a command of a shell.
ENDS = {"|", "||", "&", "&&", ";", ">", ">>", "<", "2>"}


def blocks(page):
    """(language, text) of the code blocks of a page."""
    found = re.findall(r"^( *)```(\w*)[^\n]*\n(.*?)^ *```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [(language, re.sub(rf"^{indent}", "", text, flags=re.MULTILINE)) for indent, language, text in found]


def commands(page):
    """The words of every command of dpiqa in the console blocks of a page."""
    for language, text in blocks(page):
        for line in re.sub(r"\\\n", " ", text).splitlines() if language == "console" else ():
            if not line.startswith("$ "):
                continue
            lexer = shlex.shlex(line[2:], posix=True, punctuation_chars="|&;<>")
            lexer.whitespace_split = True
            words = list(lexer)
            while any(word == "dpiqa" or word.endswith("bin/dpiqa") for word in words):
                first = next(i for i, word in enumerate(words) if word == "dpiqa" or word.endswith("bin/dpiqa"))
                before, words = words[:first], words[first + 1 :]
                end = next((i for i, word in enumerate(words) if word in ENDS), len(words))
                if all("=" in word for word in before) or before[-1:] == ["&"]:
                    yield words[:end]
                words = words[end:]


TYPED = sorted({(page.name, *words) for page in PAGES for words in commands(page)})


@pytest.mark.parametrize("command", TYPED, ids=" ".join)
def test_a_command_of_a_page_can_be_typed(command):
    words = ["latest" if word == "JOB" else word for word in command[1:] if not word.startswith("$")]
    if words == ["COMMAND", "--help"]:
        return
    current, parent = typer.main.get_command(app), None
    try:
        while isinstance(current, TyperGroup):
            parent = current.context_class(current, parent=parent, info_name=current.name)
            _, current, words = current.resolve_command(parent, words)
        current.make_context(current.name, words, parent=parent)
    except typer.Exit:
        return  # --help and --version
    except (typer.BadParameter, NotFound) as error:
        if "does not exist" not in str(error):  # the page's files are not here
            raise


def test_most_pages_show_commands():
    assert len(TYPED) > 100


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_blocks_are_of_their_language(page):
    read = {"json": json.loads, "python": ast.parse, "toml": tomllib.loads, "yaml": yaml.safe_load}
    for language, text in blocks(page):
        if language in read:
            read[language](text)


def test_every_page_is_on_the_site():
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    listed = re.findall(r"[\w/-]+\.md", json.dumps(nav))
    assert sorted(listed) == sorted(str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md"))


def test_the_site_asks_no_other_host():
    """With `repo_url` its pages ask GitHub, and with a font of the theme's choice Google."""
    text = (ROOT / "mkdocs.yml").read_text()
    assert "\n  font: false" in text
    assert "\nrepo_url:" not in text
