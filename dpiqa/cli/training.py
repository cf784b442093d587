"""`dpiqa train ...`: the one front of `dpiqa.training`."""

import typer

from dpiqa.cli import options, train_options
from dpiqa.cli.app import command, new_group
from dpiqa.cli.train_diffusion import diffusion
from dpiqa.cli.train_promptiqa import promptiqa

_PANEL = "Making models"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = new_group(
        "train",
        "Train models on labelled photographs: the autoencoder, a U-Net on its latents, the teacher, then the"
        " student; or PromptIQA."
        " Or fine-tune one. Settings come from a preset, a TOML file and --set, later ones winning."
        " A killed run goes on where it was.",
        ["dpiqa train student --preset finetune-student --dataset csv --data labels.csv --out runs/mine --name mine"],
    )
    command(group, "vae", "dpiqa train vae --preset bundled-vae --dataset csv --data labels.csv")(vae)
    command(group, "diffusion", "dpiqa train diffusion --preset bundled-diffusion --dataset csv --data labels.csv")(
        diffusion
    )
    command(
        group,
        "teacher",
        "dpiqa train teacher --preset bundled-teacher --dataset csv --data labels.csv --out runs/teacher --name mine",
        "dpiqa train teacher --preset paper-koniq-teacher --print-config",
    )(teacher)
    command(
        group,
        "student",
        "dpiqa train student --preset bundled-student-distilled --dataset csv --data labels.csv --set teacher=mine",
        "dpiqa train student --config run.toml --set plan.epochs=3 --set plan.rate=1e-4",
    )(student)
    command(
        group,
        "promptiqa",
        "dpiqa train promptiqa --preset finetune-promptiqa --set model.start=promptiqa --dataset csv --data labels.csv",
        "dpiqa train promptiqa --preset paper-promptiqa --print-config",
    )(promptiqa)
    app.add_typer(group, rich_help_panel=_PANEL)


def vae(
    *,
    config: train_options.Config = None,
    preset: train_options.Preset = None,
    changes: train_options.Set = None,
    dataset: train_options.Dataset = None,
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

    chosen = train_options.overrides(changes, dataset, data, out)
    run = resolve(VaeRun, preset=preset, file=config, overrides=chosen)
    train_options.run(run, train_vae, print_config=print_config, as_json=as_json)


def teacher(  # noqa: PLR0913 - one parameter per option
    *,
    config: train_options.Config = None,
    preset: train_options.Preset = None,
    changes: train_options.Set = None,
    dataset: train_options.Dataset = None,
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

    chosen = train_options.overrides(changes, dataset, data, out, name)
    run = resolve(TeacherRun, preset=preset, file=config, overrides=chosen)
    train_options.run(run, train_teacher, print_config=print_config, as_json=as_json)


def student(  # noqa: PLR0913 - one parameter per option
    *,
    config: train_options.Config = None,
    preset: train_options.Preset = None,
    changes: train_options.Set = None,
    dataset: train_options.Dataset = None,
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

    chosen = train_options.overrides(changes, dataset, data, out, name)
    run = resolve(StudentRun, preset=preset, file=config, overrides=chosen)
    train_options.run(run, train_student, print_config=print_config, as_json=as_json)
