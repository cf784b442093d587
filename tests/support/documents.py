"""Everything that a command prints as JSON in a test fits its schema, has no field beside it, and is announced."""

import json

from typer._click.globals import get_current_context

from dpiqa.cli.documents.catalogue import DOCUMENTS
from dpiqa.cli.documents.checking import problems
from dpiqa.cli.documents.commands import OF_COMMAND
from dpiqa.cli.support import console
from dpiqa.exports.schemas import BY_MODEL, SCHEMAS

#: Documents that hold more than they name: cards and reports of evaluations grow.
OPEN = {
    "model@1", "available-model@1", "evaluation@1", "comparison@1", "routing-trial@1", "distortion-sweep@1",
    "invariance@1", "text-embeddings@1",
}  # fmt: skip


def check(document, value):
    """Compare a value that is printed with its schema."""
    context = get_current_context(silent=True)
    if context is not None:
        command = context.command_path.partition(" ")[2]
        assert document in OF_COMMAND[command], f"`dpiqa {command}` prints {document}"
    if document in BY_MODEL or document not in {**DOCUMENTS, **SCHEMAS}:
        return
    schema = {**DOCUMENTS, **SCHEMAS}[document]
    value = json.loads(console.to_json(value))
    for number, one in enumerate(value if isinstance(value, list) else [value]):
        assert not (found := list(problems(schema, one, number))), [*map(str, found)]
        if document in DOCUMENTS and (known := schema.fields[1]) and document not in OPEN:
            assert set(one) <= known, f"{document} says nothing of {set(one) - known}"


def watch(monkeypatch):
    """Check every document from now on."""

    def rows(document, values):
        for value in values:
            check(document, value)
            yield value

    def checked(print_it):
        return lambda document, value: (check(document, value), print_it(document, value))

    monkeypatch.setattr(console, "print_json", checked(console.print_json))
    monkeypatch.setattr(console, "print_json_line", checked(console.print_json_line))
    array = console.print_json_array
    monkeypatch.setattr(console, "print_json_array", lambda document, values: array(document, rows(document, values)))
