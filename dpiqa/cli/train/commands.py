"""`dpiqa train ...`: the commands, one for each kind of run."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperCommand

from dpiqa.cli.support import options
from dpiqa.cli.support.groups import command
from dpiqa.cli.train.run import overrides, train

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="TOML file with the run's settings.", exists=True, dir_okay=False)
]
PresetOption = Annotated[
    str | None,
    typer.Option(help="Settings to begin from, shipped with dpiqa; a wrong name lists them. The file changes them."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change one setting: KEY=VALUE, e.g. plan.epochs=3. May be repeated.", metavar="K=V"),
]
OutOption = Annotated[
    Path | None, typer.Option(help="Folder for the run (output.folder); a killed run continues from it.")
]
NameOption = Annotated[str | None, typer.Option(help="Name of the model (output.name).")]
PrintConfigOption = Annotated[
    bool, typer.Option("--print-config", help="Print the settings that would be used, as TOML, and end.")
]


def _command(
    name: str, *examples: str, settings: str, function: str, makes_model: bool = True
) -> Callable[[Callable[[], None]], TyperCommand]:
    """Make a function without a body the command of a kind of run: all kinds have the same options.

    `settings` and `function`: `module:name` of the settings' class and of the function that trains by them. Their
    modules load torch, so they are imported when the command runs. `makes_model`: otherwise the result is a file for
    other runs, and there is no --name.
    """

    def make(described: Callable[[], None]) -> TyperCommand:
        def run(  # noqa: PLR0913 - one parameter per option
            *,
            config: ConfigOption = None,
            preset: PresetOption = None,
            changes: SetOption = None,
            dataset: options.DatasetsOption = None,
            data: options.DatasetPathsOption = None,
            out: OutOption = None,
            name: NameOption = None,
            print_config: PrintConfigOption = False,
            as_json: options.JsonOption = False,
        ) -> None:
            sources = {"preset": preset, "file": config, "overrides": overrides(changes, dataset, data, out, name)}
            train(settings, function, sources, print_config=print_config, as_json=as_json)

        run.__doc__ = described.__doc__
        if not makes_model:
            signature = inspect.signature(run)
            parameters = [parameter for parameter in signature.parameters.values() if parameter.name != "name"]
            run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        return command(name, *examples)(run)

    return make


@_command(
    "vae",
    "dpiqa train vae --preset bundled-vae --dataset csv --data labels.csv",
    settings="dpiqa.training.config.kinds:VaeRun",
    function="dpiqa.training.runs.vae:train_vae",
    makes_model=False,
)
def vae() -> None:
    """Train the autoencoder whose latents the teacher reads. The labels' scores are not used."""


@_command(
    "diffusion",
    "dpiqa train diffusion --preset bundled-diffusion --dataset csv --data labels.csv",
    settings="dpiqa.training.config.kinds:DiffusionRun",
    function="dpiqa.training.runs.diffusion:train_diffusion",
    makes_model=False,
)
def diffusion() -> None:
    """Pre-train a teacher's U-Net by denoising the autoencoder's latents. The labels' scores are not used.

    model.vae names the autoencoder's file; a teacher begins with the result by model.unet.
    """


@_command(
    "teacher",
    "dpiqa train teacher --preset bundled-teacher --dataset csv --data labels.csv --out runs/teacher --name mine",
    "dpiqa train teacher --preset paper-koniq-teacher --print-config",
    settings="dpiqa.training.config.kinds:TeacherRun",
    function="dpiqa.training.runs.teacher:train_teacher",
)
def teacher() -> None:
    """Train or fine-tune a teacher: the diffusion prior with its quality feature decoder.

    model.mode names the parts that learn: qfd, adapters+qfd, lora+qfd, adapters+lora+qfd or full.
    """


@_command(
    "student",
    "dpiqa train student --preset bundled-student-distilled --dataset csv --data labels.csv --set teacher=mine",
    "dpiqa train student --config run.toml --set plan.epochs=3 --set plan.rate=1e-4",
    settings="dpiqa.training.config.kinds:StudentRun",
    function="dpiqa.training.runs.student:train_student",
)
def student() -> None:
    """Train or fine-tune a student, from labels alone or from a teacher's outputs too (distillation)."""


@_command(
    "promptiqa",
    "dpiqa train promptiqa --preset finetune-promptiqa --set model.start=promptiqa --dataset csv --data labels.csv",
    "dpiqa train promptiqa --preset paper-promptiqa --print-config",
    settings="dpiqa.training.config.kinds:PromptIQARun",
    function="dpiqa.training.runs.promptiqa:train_promptiqa",
)
def promptiqa() -> None:
    """Train or fine-tune a PromptIQA model, which scores by a requirement's image-score pairs.

    Give several data sets: each batch is of one of them, and its other images are each image's prompt.
    """
