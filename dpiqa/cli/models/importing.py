"""`dpiqa models import`."""

from pathlib import Path
from typing import Annotated

import typer

from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.models.base import ModelCard
from dpiqa.models.importing.importer import import_checkpoint
from dpiqa.models.importing.sizes import read_architecture
from dpiqa.types import ModelKind

_NOT_STATED = "not stated"


@command(
    "import",
    'dpiqa models import student.pth --kind student --name koniq-student --licence "CC BY-NC-SA 4.0"',
    "dpiqa models import teacher.pth --kind teacher --name koniq-teacher --text-embeddings published-1485.safetensors",
    "dpiqa models import best_model.pth.tar --kind promptiqa --name promptiqa",
    "dpiqa models import student.onnx --kind onnx --name older-student",
)
def import_file(  # noqa: PLR0913, PLR0917 - options of a command
    file: Annotated[Path, typer.Argument(help="The checkpoint: .pth, .pth.tar, .safetensors or .onnx.")],
    kind: Annotated[ModelKind, typer.Option("--kind", help="Kind of model: student, teacher, promptiqa or onnx.")],
    name: Annotated[str, typer.Option("--name", help="Name of the model.")],
    text_embeddings: Annotated[
        Path | None,
        typer.Option(
            "--text-embeddings", help="Embeddings of a published teacher's prompts: .safetensors, .pt or .npy."
        ),
    ] = None,
    architecture: Annotated[
        Path | None,
        typer.Option("--architecture", help="JSON with the sizes of a network that is not the published one."),
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
        console.print_json({"scorer_id": card.scorer_id, **card.model_dump(mode="json")})
        return
    fields = {
        "model": card.name,
        "kind": card.kind.value,
        "scorer": card.scorer_id,
        "licence": card.licence,
        "sha256": card.sha256,
    }
    console.fields(fields.items())
