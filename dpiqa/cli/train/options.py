"""What every `dpiqa train ...` command shares: where its settings come from, and how it starts and ends."""

import signal
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from dpiqa.cli.support import console, context
from dpiqa.cli.train.progress import watching
from dpiqa.cli.train.runs import Loader
from dpiqa.errors import ConfigurationError, InvalidRequest, TrainingInterrupted
from dpiqa.signals import interrupted_by

Config = Annotated[
    Path | None, typer.Option("--config", help="TOML file with the run's settings.", exists=True, dir_okay=False)
]
Preset = Annotated[
    str | None,
    typer.Option(help="Settings to begin from, shipped with dpiqa; a wrong name lists them. The file changes them."),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change one setting: KEY=VALUE, e.g. plan.epochs=3. May be repeated.", metavar="K=V"),
]
Dataset = Annotated[
    list[str] | None,
    typer.Option("--dataset", help="Data set by name (docs/datasets.md), or csv. May be repeated.", metavar="NAME"),
]
Data = Annotated[
    list[Path] | None,
    typer.Option("--data", help="The data set's folder, or the CSV; one for each --dataset.", metavar="PATH"),
]
Out = Annotated[Path | None, typer.Option(help="Folder for the run (output.folder); a killed run goes on from it.")]
Name = Annotated[str | None, typer.Option(help="Name of the model (output.name).")]
PrintConfig = Annotated[
    bool, typer.Option("--print-config", help="Print the settings that would hold, as TOML, and end.")
]


def overrides(
    changes: list[str] | None,
    dataset: list[str] | None,
    data: list[Path] | None,
    out: Path | None,
    name: str | None = None,
) -> list[str]:
    """Return all that the command line says as `KEY=VALUE`s; what has an option of its own comes last."""
    found = list(changes or ())
    if len(dataset or ()) != len(data or ()):
        hint = "give one --data PATH for each --dataset NAME"
        raise InvalidRequest(f"{len(dataset or ())} data sets and {len(data or ())} places", hint=hint)
    if dataset and data:
        pairs = zip(dataset, data, strict=True)
        sets = ", ".join(f"{{name = {_quoted(one)}, path = {_quoted(str(path))}}}" for one, path in pairs)
        found.append(f"data.sets=[{sets}]")
    found += [f"output.folder={_quoted(str(out))}"] if out else []
    return found + ([f"output.name={_quoted(name)}"] if name else [])


def run(load: Loader, given: Mapping[str, Any], *, print_config: bool, as_json: bool) -> None:
    """Train by what was `given` (as `resolve` takes it), or only print the settings; the result goes to stdout."""
    with needing_torch():
        from dpiqa.training.config.file import as_toml, resolve

        settings_class, train = load()
    config = resolve(settings_class, **given)
    if print_config:
        typer.echo(as_toml(config), nl=False)
        return
    settings = context.settings()
    with needing_torch(settings.threads), _stoppable():
        from dpiqa.models.torch_scorer import keep_buffers
        from dpiqa.training.progress import listening
        from dpiqa.training.runs.context import RunContext

        keep_buffers()
        with watching() as bar, listening(bar.prepared):
            run_context = RunContext(models_dir=settings.models_dir, device=settings.device, observer=bar)
            made = train(config, run_context)
    if made is not None:  # another process of the same run says it
        _show(made, as_json)


@contextmanager
def needing_torch(threads: int | None = None) -> Iterator[None]:
    """Set the threads of torch. Raises `ConfigurationError` when it, or what training needs besides, is missing."""
    try:
        import torch

        if threads:
            torch.set_num_threads(threads)
        yield
    except ModuleNotFoundError as error:
        if (error.name or "dpiqa").startswith("dpiqa"):
            raise  # a fault of ours
        hint = "pip install 'dpiqa[train]'"
        raise ConfigurationError(f"this needs {error.name}, which is not installed", hint=hint) from error


@contextmanager
def _stoppable() -> Iterator[None]:
    """End at Ctrl-C and SIGTERM as Ctrl-C ends any command, after saying that nothing is lost."""
    try:
        with interrupted_by(signal.SIGINT, signal.SIGTERM):  # the loop itself finishes its update first
            yield
    except TrainingInterrupted as stopped:
        console.note(f"{stopped.message}; {stopped.hint}")
        raise typer.Exit(130) from None
    except KeyboardInterrupt:  # before the first update, or asked twice
        console.note("stopped at once; what was done is kept; the same command goes on from there")
        raise typer.Exit(130) from None


def _show(made: Any, as_json: bool) -> None:
    if isinstance(made, Path):
        console.print_json({"file": str(made)}) if as_json else typer.echo(made)
        return
    console.print_json(made) if as_json else typer.echo(made.scorer_id)
    console.note(f"`dpiqa models show {made.name}` shows its card")


def _quoted(text: str) -> str:
    """Return a TOML string."""
    quoted = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    try:
        tomllib.loads(f"value = {quoted}")
    except tomllib.TOMLDecodeError as error:
        raise InvalidRequest(f"{text!r} holds a character that no setting can", hint="rename it") from error
    return quoted
