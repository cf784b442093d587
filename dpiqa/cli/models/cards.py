"""`dpiqa models`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpiqa.cli.models import card_view, importing, prompts, pull, reference
from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command, new_group
from dpiqa.errors import CheckpointError
from dpiqa.exit_codes import ExitCode

if TYPE_CHECKING:
    from dpiqa.models.base import ModelCard

Name = Annotated[str, typer.Argument(help="Model, as `dpiqa models list` names it.")]


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = new_group("models", "Models: what scored, how well, under which licence.", ["dpiqa models list"])
    command(group, "list", "dpiqa models list", "dpiqa models list --available")(list_all)
    command(group, "show", "dpiqa models show bundled-student", "dpiqa models show bundled-student --json")(show)
    command(group, "verify", "dpiqa models verify", "dpiqa models verify bundled-teacher")(verify)
    importing.register(group)
    pull.register(group)
    prompts.register(group)
    reference.register(group)
    app.add_typer(group)


def list_all(
    available: Annotated[bool, typer.Option("--available", help="List what can be pulled instead.")] = False,
    as_json: options.Json = False,
) -> None:
    """List the bundled models and those in DPIQA_MODELS_DIR."""
    from dpiqa.models.cards import list_cards

    settings = context.settings()
    if available:
        pull.list_available(settings, as_json=as_json)
        return
    cards = list_cards(settings.models_dir)
    if as_json:
        console.print_json([_document(card) for card in cards])
        return
    rows = [(card.name, card.kind, card.preprocessing.version, card.licence, card.scorer_id) for card in cards]
    console.table(("model", "kind", "input", "licence", "scorer"), rows)


def show(name: Name, as_json: options.Json = False) -> None:
    """Show a model card: architecture, data and its terms, measured figures, where it fails.

    Of the figures the most asked for; `--json` has all. Those that were measured with other weights than those of today
    are named.
    """
    from dpiqa.models.cards import find_card, list_cards, stale_sections

    folder = context.settings().models_dir
    card = find_card(name, folder)
    stale = stale_sections(card, list_cards(folder))
    if as_json:
        console.print_json(_document(card) | {"stale_figures": stale})
        return
    if stale:
        console.warn(f"measured with other weights than those of today: {'; '.join(stale)}")
    document = _document(card) | {"preprocessing": card.preprocessing.version}
    document["references"] = list(map(reference.in_words, card.references))
    console.fields(card_view.card_lines(document))


def verify(
    names: Annotated[list[str] | None, typer.Argument(help="Models; all when none is named.")] = None,
    as_json: options.Json = False,
) -> None:
    """Check that weights and pulled parts are there and are, byte for byte, what they were. Ends with 1 if one is not.

    A model's weights are those its card describes; a part's files (`dpiqa models pull`) those recorded when it came.
    """
    from dpiqa.models.cards import find_card, list_cards
    from dpiqa.models.catalogue.pulled import pulled_parts

    folder = context.settings().models_dir
    parts = [name for name in pulled_parts(folder) if not names or name in names]
    cards = [find_card(name, folder) for name in names if name not in parts] if names else list_cards(folder)
    findings = [_verified(card) for card in cards] + [_verified_part(name) for name in parts]
    if as_json:
        console.print_json(findings)
    else:
        rows = [("ok" if one["ok"] else "FAIL", one["model"], one["message"], one["hint"]) for one in findings]
        console.table(("", "model", "finding", "hint"), rows)
    if not all(one["ok"] for one in findings):
        raise typer.Exit(ExitCode.INCOMPLETE)


def _verified(card: "ModelCard") -> dict[str, Any]:
    from dpiqa.models.cards import verify as check

    message = "weights are those of the card" if card.weights else "built in, has no weights"
    return _finding(card.name, message, lambda: check(card, context.settings().models_dir))


def _verified_part(name: str) -> dict[str, Any]:
    from dpiqa.models.catalogue.pulled import verify_part

    return _finding(name, "files are those that were pulled", lambda: verify_part(name, context.settings().models_dir))


def _finding(name: str, message: str, check: Callable[[], None]) -> dict[str, Any]:
    try:
        check()
    except CheckpointError as error:
        return {"model": name, "ok": False, "message": error.message, "hint": error.hint}
    return {"model": name, "ok": True, "message": message, "hint": ""}


def _document(card: "ModelCard") -> dict[str, Any]:
    return {"scorer_id": card.scorer_id, **card.model_dump(mode="json")}
