"""`dpiqa models import` and `pull`: models made of weights that others published; the list of these."""

from pathlib import Path
from typing import Annotated, Any

import typer

from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.cli.support.progress import downloading
from dpiqa.errors import ConfigurationError, InvalidRequest
from dpiqa.models.base import ModelCard
from dpiqa.models.cards import list_cards
from dpiqa.models.catalogue.entries import Entry, Hosts, catalogue, find_entry, find_sources
from dpiqa.models.catalogue.pull import PullRequest
from dpiqa.models.catalogue.pull import pull as download
from dpiqa.models.catalogue.pulled import accept_terms, pulled_parts, read_record
from dpiqa.models.choice import plain_name
from dpiqa.models.importing.importer import import_checkpoint
from dpiqa.models.importing.sizes import read_architecture
from dpiqa.models.plugins import find_plugin_card, licence_to_accept, load_plugin_scorer
from dpiqa.types import ModelKind

_NOT_STATED = "not stated"


@command(
    "pull",
    "dpiqa models pull dpiqa-student-koniq --accept-license",
    "dpiqa models pull dpiqa-teacher-koniq --text-embeddings published-1485.safetensors",
    "dpiqa models pull clip-vit-l14 --source https://hub.mirror.example",
    "dpiqa models pull sd15 --source /mnt/share/stable-diffusion-v1-5",
    "dpiqa models pull pyiqa:topiq_nr --accept-license",
)
def pull(
    name: Annotated[str, typer.Argument(help="Name of the weights, as `dpiqa models list --available` lists it.")],
    accept: Annotated[
        bool, typer.Option("--accept-license", "--accept-licence", help="Accept the publisher's terms without asking.")
    ] = False,
    source: Annotated[
        str | None,
        typer.Option("--source", help="Another source: a file, a folder, a mirror's address, or OWNER/REPOSITORY."),
    ] = None,
    revision: Annotated[str | None, typer.Option("--revision", help="Branch, tag or commit on the hub.")] = None,
    text_embeddings: Annotated[
        Path | None,
        typer.Option("--text-embeddings", help="Embeddings of a teacher's prompts, see `dpiqa models import`."),
    ] = None,
    called: Annotated[str | None, typer.Option("--as", help="Name of the model; by default NAME.")] = None,
    importing: Annotated[
        bool, typer.Option("--import/--no-import", help="Make a model of it; otherwise only download.")
    ] = True,
    as_json: options.JsonOption = False,
) -> None:
    """Fetch weights that others published, and make a model of them.

    An interrupted download resumes where it stopped, at once or with the next call. The sha256 of every file is
    recorded in the models folder at its first use and checked from then on. The publisher's terms are shown and
    have to be accepted once.

    PLUGIN:MODEL, a model of a plug-in, is loaded once: its package may download weights then.
    """
    settings = context.read_settings()
    if (card := find_plugin_card(plain_name(name))) is not None:
        if any(value is not None for value in (source, revision, text_embeddings, called)) or not importing:
            raise InvalidRequest(
                f"{card.name} comes from its plug-in as it is", hint="give no other option than --accept-license"
            )
        if (licence := licence_to_accept(card)) is not None:
            _accept(card.name, licence, card.paper, settings.models_dir, accept=accept)
        print_new_card(load_plugin_scorer(card, device=settings.device, threads=settings.threads).card, as_json=as_json)
        return
    entry = find_entry(name)
    sources = find_sources(entry, Hosts(settings.drive_url, settings.hub_url), source=source, revision=revision)
    terms = entry.terms
    _accept(entry.name, terms.licence, terms.licence_url, settings.models_dir, accept=accept)
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
    result = download(request)
    if isinstance(result, ModelCard):
        print_new_card(result, as_json=as_json)
    elif as_json:
        console.print_json("pulled-part@1", {"name": entry.name, "folder": str(result), "files": list(entry.files)})
    else:
        console.fields([("name", entry.name), ("folder", str(result)), ("files", ", ".join(entry.files))])


def print_available(models_dir: Path, *, as_json: bool) -> None:
    """Print what can be pulled."""
    local = {card.name for card in list_cards(models_dir)} | set(pulled_parts(models_dir))
    documents = [_as_dict(entry, is_local=entry.name in local) for entry in catalogue().values()]
    if as_json:
        console.print_json("available-model@1", documents)
        return
    rows = [
        (
            document["name"],
            document["kind"],
            f"about {document['about_bytes'] / 1e9:.1f} GB" if document["about_bytes"] else "unknown",
            "yes" if document["here"] else "",
            document["licence"],
        )
        for document in documents
    ]
    console.table(("name", "kind", "size", "here", "licence"), rows)


def _as_dict(entry: Entry, *, is_local: bool) -> dict[str, Any]:
    return {
        "name": entry.name,
        "kind": entry.kind.value if entry.kind else "part",
        "about_bytes": entry.bytes,
        "here": is_local,
        "licence": entry.terms.licence,
        "licence_url": entry.terms.licence_url,
        "paper": entry.terms.paper,
        "trained_on": entry.trained_on,
        "place": f"hub {entry.hub}@{entry.revision}" if entry.hub else f"Google Drive {entry.drive}",
        "files": list(entry.files),
    }


def _accept(name: str, licence: str, url: str, models_dir: Path, *, accept: bool) -> None:
    """Show the publisher's terms and have them accepted, once per models folder."""
    if licence in read_record(models_dir).accepted:
        return
    console.note(f"{name}: {licence} ({url})")
    if not accept and not console.confirm("Do you accept these terms?"):
        raise ConfigurationError(
            f"the terms of {name} were not accepted: {licence}", hint=f"read {url}, then give --accept-license"
        )
    accept_terms(licence, models_dir)


@command(
    "import",
    'dpiqa models import student.pth --kind student --name koniq-student --licence "CC BY-NC-SA 4.0"',
    "dpiqa models import teacher.pth --kind teacher --name koniq-teacher --text-embeddings published-1485.safetensors",
    "dpiqa models import best_model.pth.tar --kind promptiqa --name promptiqa",
    "dpiqa models import student.onnx --kind onnx --name older-student",
)
def import_file(  # noqa: PLR0913, PLR0917 - options of a command
    file: Annotated[Path, typer.Argument(help="The checkpoint: .pth, .pth.tar, .safetensors or .onnx.", exists=True)],
    kind: Annotated[ModelKind, typer.Option("--kind", help="Kind of model: student, teacher, promptiqa or onnx.")],
    name: Annotated[str, typer.Option("--name", help="Name of the model.")],
    text_embeddings: Annotated[
        Path | None,
        typer.Option(
            "--text-embeddings",
            help="Embeddings of a published teacher's prompts: .safetensors, .pt or .npy.",
            exists=True,
        ),
    ] = None,
    architecture: Annotated[
        Path | None,
        typer.Option(
            "--architecture", help="JSON with the sizes of a network that is not the published one.", exists=True
        ),
    ] = None,
    licence: Annotated[
        str, typer.Option("--licence", "--license", help="Terms of the weights, for the card.")
    ] = _NOT_STATED,
    paper: Annotated[str, typer.Option("--paper", help="Paper or page that describes the model, for the card.")] = "",
    trained_on: Annotated[str, typer.Option("--trained-on", help="Training data and split, for the card.")] = "",
    as_json: options.JsonOption = False,
) -> None:
    """Make a model of a published checkpoint: one safetensors file with a card, in DPIQA_MODELS_DIR.

    Names of the published state dicts are translated, tensors that no score uses are left out, and the model has to
    score a test image before it is published. Pickles (.pth) are read as tensors and numbers only; nothing in them is
    run.
    """
    card = import_checkpoint(
        file,
        kind=kind,
        name=name,
        models_dir=context.read_settings().models_dir,
        text_embeddings=text_embeddings,
        architecture=read_architecture(architecture) if architecture else None,
        licence=licence,
        paper=paper,
        trained_on=trained_on,
        note=console.note,
    )
    if licence == _NOT_STATED:
        console.warn(f"the card of {name} states no licence: name it with --licence")
    print_new_card(card, as_json=as_json)


def print_new_card(card: ModelCard, *, as_json: bool) -> None:
    """Print the main fields of a model that was just published."""
    if as_json:
        console.print_json("model@1", {"scorer_id": card.scorer_id, **card.model_dump(mode="json")})
        return
    fields = {
        "model": card.name,
        "kind": card.kind.value,
        "scorer": card.scorer_id,
        "licence": card.licence,
        "sha256": card.sha256,
        **{f"sha256 of {name}": digest for name, digest in card.weights_files.items()},
    }
    console.fields(fields.items())
