"""`dpiqa models prompts` and `embed-text`: what a DP-IQA teacher is told about pictures."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpiqa.cli.support import console, context, options, progress
from dpiqa.cli.support.groups import command
from dpiqa.errors import ConfigurationError, NotFound

if TYPE_CHECKING:
    from dpiqa.models.prompts import PromptTable

_TABLE_HELP = "Table by name (`dpiqa models prompts`), or a .toml file with one of your own."
#: Folder of embeddings within the models folder; files are named by their content.
CACHE = "text-embeddings"


def register(group: typer.Typer) -> None:
    """Add the commands."""
    command(group, "prompts", "dpiqa models prompts", "dpiqa models prompts published-1485")(prompts)
    command(
        group,
        "embed-text",
        "dpiqa models embed-text --table published-1485 --output published-1485.safetensors",
        "dpiqa models embed-text --table mine.toml --encoder ~/clip-vit-large-patch14",
    )(embed_text)


def prompts(
    table: Annotated[str | None, typer.Argument(help=_TABLE_HELP)] = None,
    as_json: options.Json = False,
) -> None:
    """List the tables of prompts, or print all texts of one, in the order of their embeddings."""
    if table is None:
        _list_tables(as_json=as_json)
        return
    texts = _table(table).texts()
    if as_json:
        console.print_json(texts)
    else:
        for text in texts:
            typer.echo(text)


def embed_text(
    table: Annotated[str, typer.Option("--table", help=_TABLE_HELP)],
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
    device: Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = None,
    as_json: options.Json = False,
) -> None:
    """Embed a table's prompts with CLIP's text encoder, for `dpiqa models import --text-embeddings`.

    It is done once: embeddings are kept in DPIQA_MODELS_DIR, by the sha256 of texts, tokens, weights and pooling.
    """
    settings = context.settings(device=device)
    chosen = _table(table)
    if chosen.reconstructed:
        console.warn(f"{table} is reconstructed: {chosen.source}")
    folder = _encoder_folder(encoder, chosen, settings.models_dir)
    try:
        from dpiqa.models.text.cache import cached_embeddings
        from dpiqa.models.text.clip import load_text_encoder
        from dpiqa.models.text.embeddings import write_embeddings
        from dpiqa.models.torch_scorer import choose_device
    except ImportError as error:
        raise ConfigurationError(
            f"embedding prompts needs {error.name}, which is not installed", hint="pip install 'dpiqa[models]'"
        ) from error
    loaded = load_text_encoder(folder, chosen.pooling, device=choose_device(settings.device))
    with progress.counting("prompts", len(chosen.texts())) as advance:
        made, path = cached_embeddings(chosen, Path(table).name, loaded, settings.models_dir / CACHE, progress=advance)
    if output is not None:
        write_embeddings(output, made)
    document = {"file": str(output or path), "shape": list(made.values.shape), **made.source.model_dump(mode="json")}
    if as_json:
        console.print_json(document)
    else:
        console.fields((key.replace("_", " "), str(value)) for key, value in document.items())


def _table(name: str) -> "PromptTable":
    from dpiqa.models.prompts import prompt_table, read_prompt_table

    return read_prompt_table(Path(name)) if name.endswith(".toml") else prompt_table(name)


def _encoder_folder(encoder: str | None, table: "PromptTable", models_dir: Path) -> Path:
    """Find the encoder's folder: the given one, the pulled part of that name, or the part that the table needs."""
    from dpiqa.models.catalogue.entries import catalogue
    from dpiqa.models.catalogue.pulled import part_folder
    from dpiqa.models.prompts import TextPooling

    usual = "clip-vit-l14" if table.pooling is TextPooling.PROJECTED else "sd15-text"
    if encoder is None or encoder in catalogue():
        return part_folder(encoder or usual, models_dir)
    folder = Path(encoder).expanduser()
    if not folder.is_dir():
        raise NotFound(
            f"there is no folder {encoder}", hint=f"name the folder of a text encoder, or dpiqa models pull {usual}"
        )
    return folder


def _list_tables(*, as_json: bool) -> None:
    from dpiqa.models.prompts import PROMPT_TABLES

    if as_json:
        console.print_json({name: table.model_dump(mode="json") for name, table in PROMPT_TABLES.items()})
        return
    rows = [
        (name, len(table.texts()), " x ".join(map(str, table.shape)), table.pooling.value, _source(table))
        for name, table in PROMPT_TABLES.items()
    ]
    console.table(("table", "prompts", "qualities x scenes x distortions", "pooling", "words"), rows)


def _source(table: "PromptTable") -> str:
    return f"reconstructed: {table.source}" if table.reconstructed else table.source
