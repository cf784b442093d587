"""The commands that the cards of the bundled models record are commands of this program."""

import json
import shlex

import pytest
import typer
from typer.core import TyperGroup

from dpiqa.cli.main import app
from dpiqa.models.cards import BUNDLED


def commands_in(document):
    """Return every value of a key `command`, at any depth."""
    if isinstance(document, dict):
        nested = [command for value in document.values() for command in commands_in(value)]
        return ([document["command"]] if "command" in document else []) + nested
    return [command for value in document for command in commands_in(value)] if isinstance(document, list) else []


RECORDED = sorted({command for file in BUNDLED.glob("*.json") for command in commands_in(json.loads(file.read_text()))})


@pytest.mark.parametrize("command", RECORDED)
def test_a_recorded_command_can_be_given_again(command):
    program, *words = shlex.split(command)
    assert program == "dpiqa"
    current, parent = typer.main.get_command(app), None
    while isinstance(current, TyperGroup):
        parent = current.context_class(current, parent=parent, info_name=current.name)
        _, current, words = current.resolve_command(parent, words)
    current.make_context(current.name, words, parent=parent)
