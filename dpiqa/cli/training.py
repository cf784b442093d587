"""`dpiqa train` and `dpiqa evaluate`: fronts of `dpiqa.training.commands`."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpiqa.cli import console, context, options
from dpiqa.cli.app import command, new_group
from dpiqa.errors import ConfigurationError

if TYPE_CHECKING:
    from dpiqa.models.base import ModelCard
    from dpiqa.settings import Settings
    from dpiqa.training.loop import Plan

_PANEL = "Making models"
Labels = Annotated[
    Path,
    typer.Option(
        help="CSV with image, mos (0-1), split, near_duplicate_group [, subset].", exists=True, dir_okay=False
    ),
]
Out = Annotated[Path, typer.Option(help="Folder for checkpoints, log and model; its name is the model's.")]
Cache = Annotated[Path, typer.Option(help="Folder for decoded pixels (0.8 MB an image).")]
Epochs = Annotated[int | None, typer.Option(help="Passes over the training set; the preset's by default.", min=1)]
Seed = Annotated[int, typer.Option(help="Of weights, crops and order.")]
_CACHE = Path("runs/cache")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = new_group(
        "train",
        "Train models on labelled photographs: the autoencoder, then the teacher, then the student."
        " A killed run goes on where it was.",
        ["dpiqa train student --labels koniq.csv --out runs/my-student"],
    )
    labels = "--labels labels.csv --out runs"
    command(group, "vae", f"dpiqa train vae {labels}/vae --minutes 30")(vae)
    command(group, "teacher", f"dpiqa train teacher {labels}/my-teacher --vae runs/vae/vae.safetensors")(teacher)
    command(group, "student", f"dpiqa train student {labels}/my-student --teacher bundled-teacher")(student)
    app.add_typer(group, rich_help_panel=_PANEL)
    example = "dpiqa evaluate bundled-student --labels labels.csv --split val"
    command(app, "evaluate", example, rich_help_panel=_PANEL)(evaluate)


def vae(
    labels: Labels,
    out: Out,
    cache: Cache = _CACHE,
    minutes: Annotated[float, typer.Option(help="How long to train.", min=0)] = 7,
    as_json: options.Json = False,
) -> None:
    """Train the autoencoder whose latents the teacher reads. The scores are not used."""
    with _torch(context.settings()):
        from dpiqa.training import commands

        written = commands.vae(labels, out, cache=cache, minutes=minutes)
    if as_json:
        console.print_json({"file": str(written)})
    else:
        typer.echo(written)


def teacher(
    labels: Labels,
    out: Out,
    vae: Annotated[Path, typer.Option(help="vae.safetensors of `dpiqa train vae`.", exists=True, dir_okay=False)],
    cache: Cache = _CACHE,
    epochs: Epochs = None,
    seed: Seed = 0,
    as_json: options.Json = False,
) -> None:
    """Train a teacher: the diffusion prior with its quality feature decoder."""
    with _torch(context.settings()):
        from dpiqa.training import commands, presets

        plan = _plan(presets.TEACHER_PLAN, epochs, seed)
        card = commands.teacher(labels, out, cache=cache, vae_file=vae, plan=plan, name=out.name)
    _show(card, as_json)


def student(
    *,
    labels: Labels,
    out: Out,
    teacher: Annotated[str | None, typer.Option(help="Teacher to learn from too; labels only without.")] = None,
    start: Annotated[
        Path | None, typer.Option(help="best.safetensors of an earlier run to begin from.", exists=True, dir_okay=False)
    ] = None,
    cache: Cache = _CACHE,
    epochs: Epochs = None,
    seed: Seed = 0,
    as_json: options.Json = False,
) -> None:
    """Train a student, from labels alone or from a teacher's answers too (distillation)."""
    settings = context.settings()
    with _torch(settings):
        from dpiqa.training import commands, presets

        plan = _plan(presets.DISTILLATION_PLAN if teacher else presets.STUDENT_PLAN, epochs, seed)
        card = commands.student(
            labels,
            out,
            cache=cache,
            teacher_name=teacher,
            models_dir=settings.models_dir,
            start=start,
            plan=plan,
            name=out.name,
        )
    _show(card, as_json)


def evaluate(
    model: Annotated[str, typer.Argument(help="Model, as `dpiqa models list` names it.")],
    labels: Labels,
    split: Annotated[str, typer.Option(help="Rows of the CSV to measure on.")] = "val",
    as_json: options.Json = False,
) -> None:
    """Compare a model's scores with people's on one split: SRCC with its 95 % interval, PLCC, KRCC, RMSE.

    Through the same decoding, preprocessing and scorer as in production. Images that cannot be scored are counted.
    """
    settings = context.settings()
    with _torch(settings):
        from dpiqa.training import commands

        figures = _defined(commands.measure(labels, model, split=split, models_dir=settings.models_dir))
    if as_json:
        console.print_json(figures)
    else:
        console.fields((name, console.to_json(value, indent=None).strip('"')) for name, value in figures.items())


def _defined(value: Any) -> Any:
    """Return the figures with None for those that are not defined, such as the correlation of constant scores."""
    if isinstance(value, dict):
        return {name: _defined(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_defined(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def _torch(settings: "Settings") -> Iterator[None]:
    """Set the threads of torch. Raises `ConfigurationError` when it, or what training needs besides, is missing."""
    try:
        import torch

        if settings.threads:
            torch.set_num_threads(settings.threads)
        yield
    except ImportError as error:
        cure = "pip install 'dpiqa[train]'"
        raise ConfigurationError(f"this needs {error.name}, which is not installed", cure=cure) from error


def _plan(preset: "Plan", epochs: int | None, seed: int) -> "Plan":
    return replace(preset, epochs=epochs or preset.epochs, seed=seed)


def _show(card: "ModelCard", as_json: bool) -> None:
    if as_json:
        console.print_json(card)
    else:
        typer.echo(card.scorer_id)
        console.note("use it with DPIQA_MODELS_DIR set to the folder it was written to")
