"""`dpiqa models list`, `show`, `verify` and `remove`."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import typer

from dpiqa.cli.models.card_view import card_lines, in_words
from dpiqa.cli.models.published import print_available
from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.errors import CheckpointError, InvalidRequest
from dpiqa.exit_codes import ExitCode
from dpiqa.models.base import ModelCard
from dpiqa.models.cards import find_card, find_scorer_card, list_cards, stale_sections
from dpiqa.models.cards import verify as verify_weights
from dpiqa.models.catalogue.pulled import pulled_parts, verify_part
from dpiqa.models.folder import check_removable, remove_model


@command("list", "dpiqa models list", "dpiqa models list --available")
def list_models(
    available: Annotated[bool, typer.Option("--available", help="List what can be pulled instead.")] = False,
    as_json: options.JsonOption = False,
) -> None:
    """List the bundled models and those in DPIQA_MODELS_DIR."""
    folder = context.read_settings().models_dir
    if available:
        print_available(folder, as_json=as_json)
        return
    cards = list_cards(folder)
    if as_json:
        console.print_json("model@1", [_as_dict(card) for card in cards])
        return
    rows = [(card.name, card.kind, card.preprocessing.version, card.licence, card.scorer_id) for card in cards]
    console.table(("model", "kind", "input", "licence", "scorer"), rows)


@command("show", "dpiqa models show bundled-student", "dpiqa models show bundled-student --json")
def show(name: options.ModelArgument, as_json: options.JsonOption = False) -> None:
    """Show a model card: architecture, data and its terms, measured figures, known failures.

    The main figures are shown; `--json` has all. Figures measured with other than the current weights are named. In
    place of a name the scorer id of a score will do: it finds the model with these weights, whatever its name was then.
    """
    folder = context.read_settings().models_dir
    card = find_scorer_card(name, folder) or find_card(name, folder)
    stale = stale_sections(card, list_cards(folder))
    if as_json:
        console.print_json("model@1", _as_dict(card) | {"stale_figures": stale})
        return
    if stale:
        console.warn(f"measured with other than the current weights: {'; '.join(stale)}")
    document = _as_dict(card) | {"preprocessing": card.preprocessing.version}
    document["references"] = list(map(in_words, card.references))
    console.fields(card_lines(document))


@command("verify", "dpiqa models verify", "dpiqa models verify bundled-teacher")
def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Models; all when none is named.", autocompletion=options.complete_model),
    ] = None,
    as_json: options.JsonOption = False,
) -> None:
    """Check that weights and pulled parts exist and are unchanged, byte for byte. Exits with status 1 if not.

    A model's weights are those its card describes; a part's files (`dpiqa models pull`) those recorded when they were
    downloaded.
    """
    folder = context.read_settings().models_dir
    parts = [name for name in pulled_parts(folder) if not names or name in names]
    cards = [find_card(name, folder) for name in names if name not in parts] if names else list_cards(folder)
    findings = []
    for card in cards:
        message = "weights are those of the card" if card.weights else "built in, has no weights"
        findings.append(_finding(card.name, message, partial(verify_weights, card, folder)))
    for part in parts:
        findings.append(_finding(part, "files are those that were pulled", partial(verify_part, part, folder)))
    if as_json:
        console.print_json("model-check@1", findings)
    else:
        rows = [
            ("ok" if finding["ok"] else "FAIL", finding["model"], finding["message"], finding["hint"])
            for finding in findings
        ]
        console.table(("", "model", "finding", "hint"), rows)
    if not all(finding["ok"] for finding in findings):
        raise typer.Exit(ExitCode.INCOMPLETE)


@command("remove", "dpiqa models remove koniq-student", "dpiqa models remove koniq-student --yes")
def remove(
    name: options.ModelArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: options.JsonOption = False,
) -> None:
    """Delete a model's card and weights. Scores that it made stay; a profile that names it stops working."""
    folder = context.read_settings().models_dir
    card = find_card(name, folder)
    check_removable(name)
    if not yes and not console.confirm(f"delete {card.name} ({card.kind}, {card.licence})?"):
        raise InvalidRequest(f"{name} was not removed: not confirmed", hint="confirm, or pass --yes")
    removed = remove_model(name, folder)
    if as_json:
        console.print_json("removed-model@1", {"removed": removed.name, "scorer_id": removed.scorer_id})
    else:
        console.note(f"removed {removed.name}")


def _finding(name: str, message: str, check: Callable[[], None]) -> dict[str, Any]:
    try:
        check()
    except CheckpointError as error:
        return {"model": name, "ok": False, "message": error.message, "hint": error.hint}
    return {"model": name, "ok": True, "message": message, "hint": ""}


def _as_dict(card: ModelCard) -> dict[str, Any]:
    return {"scorer_id": card.scorer_id, **card.model_dump(mode="json")}
