"""A training run of the command line: its settings, its start and its end."""

import signal
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import typer

from dpiqa.cli.support import console, context
from dpiqa.cli.train.progress import watching
from dpiqa.errors import InvalidRequest, TrainingInterrupted
from dpiqa.extras import required_for
from dpiqa.signals import interrupted_by
from dpiqa.training.progress import listening


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
    with required_for("training", extra="train"):
        import torch  # noqa: PLC0415 - seconds of start-up, and an extra

        from dpiqa.models.torch_scorer import keep_buffers  # noqa: PLC0415 - imports torch
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
        console.print_json({"file": str(result)}) if as_json else typer.echo(result)
        return
    console.print_json(result) if as_json else typer.echo(result.scorer_id)
    console.note(f"`dpiqa models show {result.name}` shows its card")


def _quoted(text: str) -> str:
    """Return a TOML string. Raises `InvalidRequest` for characters that TOML cannot hold."""
    quoted = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    try:
        tomllib.loads(f"value = {quoted}")
    except tomllib.TOMLDecodeError as error:
        raise InvalidRequest(f"{text!r} contains a character that no setting can hold", hint="rename it") from error
    return quoted
