"""`dpiqa models`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpiqa.cli import console, context, models_import, options
from dpiqa.cli.app import command, new_group
from dpiqa.cli.exits import ExitCode
from dpiqa.errors import CheckpointError

if TYPE_CHECKING:
    from dpiqa.models.base import ModelCard

Name = Annotated[str, typer.Argument(help="Model, as `dpiqa models list` names it.")]


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = new_group("models", "Models: what scored, how well, under which licence.", ["dpiqa models list"])
    command(group, "list", "dpiqa models list")(list_all)
    command(group, "show", "dpiqa models show bundled-student", "dpiqa models show bundled-student --json")(show)
    command(group, "verify", "dpiqa models verify", "dpiqa models verify bundled-teacher")(verify)
    models_import.register(group)
    app.add_typer(group)


def list_all(as_json: options.Json = False) -> None:
    """List the bundled models and those in DPIQA_MODELS_DIR."""
    from dpiqa.models.cards import list_cards

    cards = list_cards(context.settings().models_dir)
    if as_json:
        console.print_json([_document(card) for card in cards])
        return
    rows = [(card.name, card.kind, card.preprocessing.version, card.licence, card.scorer_id) for card in cards]
    console.table(("model", "kind", "input", "licence", "scorer"), rows)


def show(name: Name, as_json: options.Json = False) -> None:
    """Show a model card: architecture, data and its terms, measured figures, where it fails."""
    from dpiqa.models.cards import find_card

    card = find_card(name, context.settings().models_dir)
    if as_json:
        console.print_json(_document(card))
        return
    document = _document(card) | {"preprocessing": card.preprocessing.version}
    console.fields((key.replace("_", " "), _text(value)) for key, value in document.items() if value not in (None, ""))


def verify(
    names: Annotated[list[str] | None, typer.Argument(help="Models; all when none is named.")] = None,
    as_json: options.Json = False,
) -> None:
    """Check that weights are there and are, byte for byte, those their cards describe. Ends with 1 if one is not."""
    from dpiqa.models.cards import find_card, list_cards

    folder = context.settings().models_dir
    cards = [find_card(name, folder) for name in names] if names else list_cards(folder)
    findings = [_verified(card) for card in cards]
    if as_json:
        console.print_json(findings)
    else:
        rows = [("ok" if one["ok"] else "FAIL", one["model"], one["message"], one["cure"]) for one in findings]
        console.table(("", "model", "finding", "cure"), rows)
    if not all(one["ok"] for one in findings):
        raise typer.Exit(ExitCode.INCOMPLETE)


def _verified(card: "ModelCard") -> dict[str, Any]:
    from dpiqa.models.cards import verify as check

    try:
        check(card, context.settings().models_dir)
    except CheckpointError as error:
        return {"model": card.name, "ok": False, "message": error.message, "cure": error.cure}
    message = "weights are those of the card" if card.weights else "built in, has no weights"
    return {"model": card.name, "ok": True, "message": message, "cure": ""}


def _document(card: "ModelCard") -> dict[str, Any]:
    return {"scorer_id": card.scorer_id, **card.model_dump(mode="json")}


def _text(value: Any) -> str:
    """Nested values as indented lines."""
    return value if isinstance(value, str) else console.to_json(value)
