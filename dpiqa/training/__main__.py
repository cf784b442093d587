"""`python -m dpiqa.training`: train and measure models from the command line."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from dpiqa.errors import DpiqaError
from dpiqa.training import commands, presets
from dpiqa.training.loop import Plan

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)

Labels = Annotated[Path, typer.Option(help="CSV: image, mos, split, near_duplicate_group [, subset]", exists=True)]
Out = Annotated[Path, typer.Option(help="folder for checkpoints, log and model; a killed run goes on from it")]
Cache = Annotated[Path, typer.Option(help="folder for the decoded pixels (0.8 MB an image)")]
Epochs = Annotated[int | None, typer.Option(help="passes over the training set; default: the preset's")]
Seed = Annotated[int, typer.Option(help="of weights, crops and order")]
Models = Annotated[Path | None, typer.Option(help="folder of your own models")]
DEFAULT_CACHE = Path("runs/cache")


@app.callback()
def threads(threads: Annotated[int | None, typer.Option(help="CPU threads for torch")] = None) -> None:
    """Set what holds for every step."""
    if threads:
        torch.set_num_threads(threads)


@app.command("vae")
def vae_step(labels: Labels, out: Out, cache: Cache = DEFAULT_CACHE, minutes: float = 7) -> None:
    """First: the autoencoder whose latents the teacher reads."""
    typer.echo(commands.vae(labels, out, cache=cache, minutes=minutes))


@app.command("teacher")
def teacher_step(
    labels: Labels,
    out: Out,
    vae: Annotated[Path, typer.Option(help="vae.safetensors of the first step", exists=True)],
    guide: Annotated[Path | None, typer.Option(help="best.safetensors of a student to follow", exists=True)] = None,
    cache: Cache = DEFAULT_CACHE,
    epochs: Epochs = None,
    seed: Seed = 0,
) -> None:
    """Second: the teacher."""
    plan = _plan(presets.TEACHER_PLAN, epochs, seed)
    card = commands.teacher(labels, out, cache=cache, vae_file=vae, guide_file=guide, plan=plan, name=out.name)
    typer.echo(card.scorer_id)


@app.command("student")
def student_step(
    labels: Labels,
    out: Out,
    teacher: Annotated[str | None, typer.Option(help="name of the teacher to learn from; none: labels only")] = None,
    models: Models = None,
    start: Annotated[Path | None, typer.Option(help="best.safetensors of an earlier run", exists=True)] = None,
    cache: Cache = DEFAULT_CACHE,
    epochs: Epochs = None,
    seed: Seed = 0,
) -> None:
    """Third: the student."""
    plan = _plan(presets.DISTILLATION_PLAN if teacher else presets.STUDENT_PLAN, epochs, seed)
    card = commands.student(
        labels, out, cache=cache, teacher_name=teacher, models_dir=models, start=start, plan=plan, name=out.name
    )
    typer.echo(card.scorer_id)


@app.command()
def evaluate(labels: Labels, model: str, split: str = "val", models: Models = None) -> None:
    """Measure a model on one split through the production scorer; prints JSON."""
    typer.echo(json.dumps(commands.measure(labels, model, split=split, models_dir=models), indent=1))


def _plan(preset: Plan, epochs: int | None, seed: int) -> Plan:
    return replace(preset, epochs=epochs or preset.epochs, seed=seed)


def main() -> None:
    """Run; an error of ours is one line."""
    try:
        app()
    except DpiqaError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
