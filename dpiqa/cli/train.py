"""`dpiqa train ...`: one command for each kind of run; progress, settings and result of a run."""

import inspect
import signal
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pkgutil import resolve_name
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from typer.core import TyperCommand

from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.cli.support.progress import duration
from dpiqa.errors import InvalidRequest, TrainingInterrupted
from dpiqa.extras import required_for
from dpiqa.process_tuning import keep_buffers, limit_spinning, share_one_arena
from dpiqa.signals import interrupted_by
from dpiqa.training.progress import listening


def _complete_preset(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the presets of this kind of run that begin so, for the shell."""
    from dpiqa.training.config.file import preset_names  # noqa: PLC0415 - only where the shell asks

    return [name for name in preset_names(ctx.info_name) if name.startswith(incomplete)]


ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="TOML file with the run's settings.", exists=True, dir_okay=False)
]
PresetOption = Annotated[
    str | None,
    typer.Option(
        help="Settings to begin from, shipped with dpiqa; a wrong name lists them. The file changes them.",
        autocompletion=_complete_preset,
    ),
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
_BLANK: dict[str, Any] = {"speed": "", "loss": "", "figures": ""}


def overrides(
    changes: list[str] | None,
    dataset: list[str] | None,
    data: list[Path] | None,
    out: Path | None,
    name: str | None = None,
) -> list[str]:
    """Return the options as `KEY=VALUE`s; those with an option of their own come last, and win."""
    if len(dataset or ()) != len(data or ()):
        hint = "give one --data PATH for each --dataset NAME"
        raise InvalidRequest(f"{len(dataset or ())} data sets and {len(data or ())} paths", hint=hint)
    assignments = list(changes or ())
    if dataset and data:
        pairs = zip(dataset, data, strict=True)
        sets = ", ".join(f"{{name = {_quoted(set_name)}, path = {_quoted(str(path))}}}" for set_name, path in pairs)
        assignments.append(f"data.sets=[{sets}]")
    if out:
        assignments.append(f"output.folder={_quoted(str(out))}")
    if name:
        assignments.append(f"output.name={_quoted(name)}")
    return assignments


def train(settings: str, function: str, sources: Mapping[str, Any], *, print_config: bool, as_json: bool) -> None:
    """Train, or only print the settings as TOML. The result goes to stdout.

    Args:
        settings: `module:name` of the class of the run's settings.
        function: `module:name` of the function that trains by them.
        sources: Arguments of `dpiqa.training.config.file.resolve`.
        print_config: Print the settings, and do not train.
        as_json: Print the result as JSON.
    """
    limit_spinning()
    with required_for("training", extra="train"):
        import torch  # noqa: PLC0415 - seconds of start-up, and an extra

        from dpiqa.training.config.file import as_toml, resolve  # noqa: PLC0415 - imports torch
        from dpiqa.training.runs.context import RunContext  # noqa: PLC0415 - imports torch

        settings_class, run = resolve_name(settings), resolve_name(function)
    config = resolve(settings_class, **sources)
    if print_config:
        typer.echo(as_toml(config), nl=False)
        return
    program_settings = context.read_settings()
    if program_settings.threads:
        torch.set_num_threads(program_settings.threads)
    share_one_arena()  # before autograd starts the thread of its backward passes
    keep_buffers()
    with _stoppable(), watching() as bar, listening(bar.prepared), required_for("training", extra="train"):
        run_context = RunContext(models_dir=program_settings.models_dir, device=program_settings.device, observer=bar)
        result = run(config, run_context)
    if result is not None:  # one of several processes of the same run reports it
        _print_result(result, as_json)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Exit with status 130 at Ctrl-C and SIGTERM, after a note that progress is saved."""
    try:
        with interrupted_by(signal.SIGINT, signal.SIGTERM):  # the loop itself finishes its update first
            yield
    except TrainingInterrupted as stopped:
        console.note(f"{stopped.message}; {stopped.hint}")
        raise typer.Exit(130) from None
    except KeyboardInterrupt:  # before the first update, or at a second signal
        console.note("stopped at once; progress is saved; rerun the command to resume")
        raise typer.Exit(130) from None


def _print_result(result: Any, as_json: bool) -> None:
    """Print a file, or the card of a model."""
    if isinstance(result, Path):
        console.print_json("file@1", {"file": str(result)}) if as_json else typer.echo(result)
        return
    console.print_json("model@1", result) if as_json else typer.echo(result.scorer_id)
    console.note(f"`dpiqa models show {result.name}` shows its card")


def _quoted(text: str) -> str:
    """Return a TOML string. Raises `InvalidRequest` for characters that TOML cannot hold."""
    quoted = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    try:
        tomllib.loads(f"value = {quoted}")
    except tomllib.TOMLDecodeError as error:
        raise InvalidRequest(f"{text!r} contains a character that no setting can hold", hint="rename it") from error
    return quoted


class Bar:
    """`dpiqa.training.loop.log.Observer` on stderr: updates, rate, time left, loss, figures of the last validation."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("loading", total=None, **_BLANK)
        self._preparation, self._started_at = "", 0.0

    def prepared(self, what: str, done: int, total: int) -> None:
        """Move the bar of the work before the first update (`dpiqa.training.progress.Listener`)."""
        if what != self._preparation:
            self._preparation, self._started_at = what, time.monotonic()
            self._begin(what, done, total)
            console.note(f"{what}: {done} of {total} done")
        self._move(done)
        if done == total:
            console.note(f"{what}: all {total} after {duration(time.monotonic() - self._started_at)}")
            self._preparation = ""

    def started(self, *, step: int, steps: int) -> None:
        """Set the bar to where the run continues."""
        self._begin("training", step, steps)
        if step:
            console.note(f"resuming after update {step} of {steps}")

    def stepped(self, *, step: int, loss: float) -> None:
        """Move the bar."""
        self._move(step, loss=f"loss {loss:.4g}")

    def validated(self, *, step: int, figures: Mapping[str, float], best: bool) -> None:
        """Show the figures; in a log as a line of their own."""
        text = " ".join(f"{name} {value:.4f}" for name, value in figures.items())
        self._progress.update(self._task, figures=text.split(" rmse")[0])
        console.note(f"update {step}: {text}{' (best)' if best else ''}")

    def _begin(self, what: str, done: int, total: int) -> None:
        self._progress.reset(self._task, description=what, completed=done, total=total, **_BLANK)

    def _move(self, done: int, **fields: Any) -> None:
        task = self._progress.tasks[0]
        speed = f"{task.speed:.2f}/s" if task.speed else ""
        self._progress.update(self._task, completed=done, speed=speed, **fields)


@contextmanager
def watching() -> Iterator[Bar]:
    """Show a bar while the block runs."""
    stderr = console.stderr()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[loss]}  {task.fields[figures]}"),
        console=stderr,
        transient=True,
        disable=not stderr.is_terminal,
    ) as progress:
        yield Bar(progress)


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
    "dpiqa train student --preset bundled-tiny-distilled --dataset csv --data labels.csv --set teacher=mine",
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
