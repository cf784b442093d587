"""`dpiqa train ...`: the one front of `dpiqa.training`."""

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from dpiqa.cli import console, context, options, train_options
from dpiqa.cli.app import command, new_group

_PANEL = "Making models"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = new_group(
        "train",
        "Train models on labelled photographs: the autoencoder, then the teacher, then the student; or fine-tune one."
        " Settings come from a preset, a TOML file and --set, later ones winning. A killed run goes on where it was.",
        ["dpiqa train student --preset finetune-student --data csv=labels.csv --out runs/mine --name mine"],
    )
    command(group, "vae", "dpiqa train vae --preset bundled-vae --data csv=labels.csv --out runs/vae")(vae)
    command(
        group,
        "teacher",
        "dpiqa train teacher --preset bundled-teacher --data csv=labels.csv --set model.vae=runs/vae/vae.safetensors",
        "dpiqa train teacher --preset paper-koniq-teacher --print-config",
    )(teacher)
    command(
        group,
        "student",
        "dpiqa train student --preset bundled-student-distilled --data csv=labels.csv --set teacher=my-teacher",
        "dpiqa train student --config run.toml --set plan.epochs=3 --set plan.rate=1e-4",
    )(student)
    app.add_typer(group, rich_help_panel=_PANEL)
    example = "dpiqa evaluate bundled-student --labels labels.csv --split val"
    command(app, "evaluate", example, rich_help_panel=_PANEL)(evaluate)


def vae(
    *,
    config: train_options.Config = None,
    preset: train_options.Preset = None,
    changes: train_options.Set = None,
    data: train_options.Data = None,
    out: train_options.Out = None,
    print_config: train_options.PrintConfig = False,
    as_json: options.Json = False,
) -> None:
    """Train the autoencoder whose latents the teacher reads. The labels' scores are not used."""
    with train_options.needing_torch():
        from dpiqa.training.commands import train_vae
        from dpiqa.training.config import VaeRun
        from dpiqa.training.configfile import resolve

    chosen = train_options.overrides(changes, data, out, None)
    run = resolve(VaeRun, preset=preset, file=config, overrides=chosen)
    train_options.run(run, train_vae, print_config=print_config, as_json=as_json)


def teacher(
    *,
    config: train_options.Config = None,
    preset: train_options.Preset = None,
    changes: train_options.Set = None,
    data: train_options.Data = None,
    out: train_options.Out = None,
    name: train_options.Name = None,
    print_config: train_options.PrintConfig = False,
    as_json: options.Json = False,
) -> None:
    """Train or fine-tune a teacher: the diffusion prior with its quality feature decoder.

    model.mode says what of it learns: qfd, adapters+qfd, lora+qfd, adapters+lora+qfd or full.
    """
    with train_options.needing_torch():
        from dpiqa.training.commands import train_teacher
        from dpiqa.training.config import TeacherRun
        from dpiqa.training.configfile import resolve

    chosen = train_options.overrides(changes, data, out, name)
    run = resolve(TeacherRun, preset=preset, file=config, overrides=chosen)
    train_options.run(run, train_teacher, print_config=print_config, as_json=as_json)


def student(
    *,
    config: train_options.Config = None,
    preset: train_options.Preset = None,
    changes: train_options.Set = None,
    data: train_options.Data = None,
    out: train_options.Out = None,
    name: train_options.Name = None,
    print_config: train_options.PrintConfig = False,
    as_json: options.Json = False,
) -> None:
    """Train or fine-tune a student, from labels alone or from a teacher's answers too (distillation)."""
    with train_options.needing_torch():
        from dpiqa.training.commands import train_student
        from dpiqa.training.config import StudentRun
        from dpiqa.training.configfile import resolve

    chosen = train_options.overrides(changes, data, out, name)
    run = resolve(StudentRun, preset=preset, file=config, overrides=chosen)
    train_options.run(run, train_student, print_config=print_config, as_json=as_json)


def evaluate(
    model: Annotated[str, typer.Argument(help="Model, as `dpiqa models list` names it.")],
    labels: Annotated[Path, typer.Option(help="CSV with image, mos (0-1), split.", exists=True, dir_okay=False)],
    split: Annotated[str, typer.Option(help="Rows of the CSV to measure on.")] = "val",
    as_json: options.Json = False,
) -> None:
    """Compare a model's scores with people's on one split: SRCC with its 95 % interval, PLCC, KRCC, RMSE.

    Through the same decoding, preprocessing and scorer as in production. Images that cannot be scored are counted.
    """
    settings = context.settings()
    with train_options.needing_torch(settings.threads):
        from dpiqa.datasets.load import load_dataset
        from dpiqa.evaluation.evaluate import evaluate as measure
        from dpiqa.models.loading import load_scorer

        images = load_dataset("csv", labels).of(split)
        measured = measure(load_scorer(model, models_dir=settings.models_dir), images)
        figures = _defined({"scorer": measured.scorer_id, "split": split, **measured.as_dict()})
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
