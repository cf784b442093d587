"""`dpiqa models pull`, and the list of what it can fetch."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpiqa.cli.models.importing import agreed, show_made
from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.cli.support.progress import downloading
from dpiqa.errors import ConfigurationError

if TYPE_CHECKING:
    from dpiqa.models.catalogue.entries import Entry
    from dpiqa.settings import Settings

_EXAMPLES = (
    "dpiqa models pull dpiqa-student-koniq --accept-license",
    "dpiqa models pull dpiqa-teacher-koniq --text-embeddings published-1485.safetensors",
    "dpiqa models pull clip-vit-l14 --source https://hub.mirror.example",
    "dpiqa models pull sd15 --source /mnt/share/stable-diffusion-v1-5",
)


def register(group: typer.Typer) -> None:
    """Add the command."""
    command(group, "pull", *_EXAMPLES)(pull_named)


def pull_named(
    name: Annotated[str, typer.Argument(help="What to fetch, as `dpiqa models list --available` names it.")],
    accept: Annotated[
        bool, typer.Option("--accept-license", "--accept-licence", help="Accept the publisher's terms without asking.")
    ] = False,
    source: Annotated[
        str | None,
        typer.Option("--source", help="Other place: a file, a folder, a mirror's address, or OWNER/REPOSITORY."),
    ] = None,
    revision: Annotated[str | None, typer.Option("--revision", help="Branch, tag or commit on the hub.")] = None,
    text_embeddings: Annotated[
        Path | None, typer.Option("--text-embeddings", help="Of a teacher's prompts, see `dpiqa models import`.")
    ] = None,
    called: Annotated[str | None, typer.Option("--as", help="What to call the model; by default NAME.")] = None,
    importing: Annotated[
        bool, typer.Option("--import/--no-import", help="Make a model of it; otherwise only download.")
    ] = True,
    as_json: options.Json = False,
) -> None:
    """Fetch weights that others published, and make a model of them.

    A download that breaks off goes on where it stopped, at once or with the next call. The sha256 of every file is
    recorded in the models folder when it is first used and checked ever after. The publisher's terms are shown and
    have to be accepted once.
    """
    from dpiqa.models.base import ModelCard
    from dpiqa.models.catalogue.entries import Hosts, find_entry, find_sources
    from dpiqa.models.catalogue.pull import PullRequest, pull

    settings = context.settings()
    entry = find_entry(name)
    sources = find_sources(entry, Hosts(settings.drive_url, settings.hub_url), source=source, revision=revision)
    _settle_terms(entry, settings, accept=accept)
    request = PullRequest(
        entry=entry,
        sources=sources,
        models_dir=settings.models_dir,
        name=called or entry.name,
        text_embeddings=text_embeddings,
        importing=importing,
        show_progress=downloading,
        note=console.note,
    )
    made = pull(request)
    if isinstance(made, ModelCard):
        show_made(made, as_json=as_json)
    elif as_json:
        console.print_json({"name": entry.name, "folder": str(made), "files": list(entry.files)})
    else:
        console.fields([("name", entry.name), ("folder", str(made)), ("files", ", ".join(entry.files))])


def list_available(settings: "Settings", *, as_json: bool) -> None:
    """Print what can be pulled."""
    from dpiqa.models.cards import list_cards
    from dpiqa.models.catalogue.entries import catalogue
    from dpiqa.models.catalogue.pulled import pulled_parts

    folder = settings.models_dir
    here = {card.name for card in list_cards(folder)} | set(pulled_parts(folder))
    documents = [_document(entry, here=entry.name in here) for entry in catalogue().values()]
    if as_json:
        console.print_json(documents)
        return
    rows = [
        (one["name"], one["kind"], _size(one["about_bytes"]), "yes" if one["here"] else "", one["licence"])
        for one in documents
    ]
    console.table(("name", "kind", "size", "here", "licence"), rows)


def _document(entry: "Entry", *, here: bool) -> dict[str, Any]:
    return {
        "name": entry.name,
        "kind": entry.kind.value if entry.kind else "part",
        "about_bytes": entry.bytes,
        "here": here,
        "licence": entry.terms.licence,
        "licence_url": entry.terms.licence_url,
        "paper": entry.terms.paper,
        "trained_on": entry.trained_on,
        "place": f"hub {entry.hub}@{entry.revision}" if entry.hub else f"Google Drive {entry.drive}",
        "files": list(entry.files),
    }


def _size(about: int | None) -> str:
    return f"about {about / 1e9:.1f} GB" if about else "unknown"


def _settle_terms(entry: "Entry", settings: "Settings", *, accept: bool) -> None:
    """Show the publisher's terms and have them accepted, once per models folder."""
    from dpiqa.models.catalogue.pulled import accept_terms, read_record

    terms = entry.terms
    if terms.licence in read_record(settings.models_dir).accepted:
        return
    console.note(f"{entry.name}: {terms.licence} ({terms.licence_url})")
    if not accept and not agreed("Do you accept these terms?"):
        raise ConfigurationError(
            f"the terms of {entry.name} were not accepted: {terms.licence}",
            hint=f"read {terms.licence_url}, then say --accept-license",
        )
    accept_terms(terms.licence, settings.models_dir)
