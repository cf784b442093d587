"""`dpiqa models prompts` and `embed-text`: the prompts of a DP-IQA teacher, and their embeddings."""

from pathlib import Path
from typing import Annotated

import typer

from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.cli.support.progress import counting
from dpiqa.errors import NotFound
from dpiqa.files import expanded
from dpiqa.models.catalogue.entries import catalogue
from dpiqa.models.catalogue.pulled import part_folder
from dpiqa.models.prompts import PROMPT_TABLES, PromptTable, TextPooling, prompt_table, read_prompt_table

_TABLE_HELP = "Table by name (`dpiqa models prompts`), or a .toml file with your own."
#: Folder of embeddings within the models folder; files are named by their content.
CACHE = "text-embeddings"


@command("prompts", "dpiqa models prompts", "dpiqa models prompts published-1485")
def prompts(
    table: Annotated[str | None, typer.Argument(help=_TABLE_HELP)] = None,
    as_json: options.JsonOption = False,
) -> None:
    """List the tables of prompts, or print all texts of one, in the order of their embeddings."""
    if table is None:
        _print_tables(as_json=as_json)
        return
    texts = _read_table(table).texts()
    if as_json:
        console.print_json("prompt@1", texts)
    else:
        for text in texts:
            typer.echo(text)


@command(
    "embed-text",
    "dpiqa models embed-text --table published-1485 --output published-1485.safetensors",
    "dpiqa models embed-text --table mine.toml --encoder ~/clip-vit-large-patch14",
)
def embed_text(
    table_name: Annotated[str, typer.Option("--table", help=_TABLE_HELP)],
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder",
            help="A pulled part (clip-vit-l14, sd15-text), or a folder with CLIP or the text parts of Stable "
            "Diffusion; by default the part that the table's pooling needs.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write a copy to this .safetensors file.", dir_okay=False)
    ] = None,
    device: options.DeviceOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Embed a table's prompts with CLIP's text encoder, for `dpiqa models import --text-embeddings`.

    Done once: embeddings are kept in DPIQA_MODELS_DIR, by the sha256 of texts, tokens, weights and pooling.
    """
    settings = context.read_settings(device=device)
    table = _read_table(table_name)
    if table.reconstructed:
        console.warn(f"{table_name} is reconstructed: {table.source}")
    folder = _encoder_folder(encoder, table, settings.models_dir)

    from dpiqa.models.text.clip import cached_embeddings, load_text_encoder  # noqa: PLC0415 - imports torch
    from dpiqa.models.text.embeddings import write_embeddings  # noqa: PLC0415 - imports torch
    from dpiqa.models.torch_scorer import choose_device  # noqa: PLC0415 - seconds of start-up, and an extra

    text_encoder = load_text_encoder(folder, table.pooling, device=choose_device(settings.device))
    with counting("prompts", len(table.texts())) as advance:
        embeddings, path = cached_embeddings(
            table, Path(table_name).name, text_encoder, settings.models_dir / CACHE, progress=advance
        )
    if output is not None:
        write_embeddings(output, embeddings)
    document = {
        "file": str(output or path),
        "shape": list(embeddings.values.shape),
        **embeddings.source.model_dump(mode="json"),
    }
    if as_json:
        console.print_json("text-embeddings@1", document)
    else:
        console.fields((key.replace("_", " "), str(value)) for key, value in document.items())


def _read_table(name: str) -> PromptTable:
    return read_prompt_table(expanded(name)) if name.endswith(".toml") else prompt_table(name)


def _encoder_folder(encoder: str | None, table: PromptTable, models_dir: Path) -> Path:
    """Return the encoder's folder: the named one, the pulled part of that name, or the part that the table needs."""
    default_part = "clip-vit-l14" if table.pooling is TextPooling.PROJECTED else "sd15-text"
    if encoder is None or encoder in catalogue():
        return part_folder(encoder or default_part, models_dir)
    folder = expanded(encoder)
    if not folder.is_dir():
        raise NotFound(
            f"the folder {encoder} does not exist",
            hint=f"name the folder of a text encoder, or dpiqa models pull {default_part}",
        )
    return folder


def _print_tables(*, as_json: bool) -> None:
    if as_json:
        console.print_json(
            "prompt-tables@1", {name: table.model_dump(mode="json") for name, table in PROMPT_TABLES.items()}
        )
        return
    rows = [
        (
            name,
            len(table.texts()),
            " x ".join(map(str, table.shape)),
            table.pooling.value,
            f"reconstructed: {table.source}" if table.reconstructed else table.source,
        )
        for name, table in PROMPT_TABLES.items()
    ]
    console.table(("table", "prompts", "qualities x scenes x distortions", "pooling", "words"), rows)
