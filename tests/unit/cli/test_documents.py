"""Every `--json` has a schema: named where it is printed, kept in a file, and read by `dpiqa validate`."""

import json

import pytest

from dpiqa.cli.documents.catalogue import DOCUMENTS
from dpiqa.cli.documents.commands import OF_COMMAND
from dpiqa.exports.schemas import BY_MODEL, SCHEMAS

from .test_tree import COMMANDS

WITH_JSON = {
    " ".join(words[1:])
    for words, command in COMMANDS
    if any("--json" in getattr(parameter, "opts", ()) for parameter in command.params)
}


def test_every_command_that_prints_json_says_what():
    assert WITH_JSON
    assert set(OF_COMMAND) == WITH_JSON
    named = {document for documents in OF_COMMAND.values() for document in documents}
    assert named <= {*DOCUMENTS, *SCHEMAS, *BY_MODEL}
    assert set(DOCUMENTS) <= named


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_the_schema_that_comes_with_the_package_is_the_one_of_the_program(document):
    assert document.json_file.read_text("utf-8") == document.json_text(), "run `make docs`"
    schema = json.loads(document.json_text())
    assert schema["title"] == document.id
