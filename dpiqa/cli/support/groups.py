"""Groups of commands: imported when they run, with examples in every `--help` and errors as one line."""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from pkgutil import resolve_name
from types import MappingProxyType, NoneType
from typing import Any, NoReturn, get_args

import typer
from typer.core import TyperCommand, TyperGroup

from dpiqa.cli.support.console import show_error
from dpiqa.cli.support.terminal import show_os_error
from dpiqa.errors import DpiqaError, NotFound
from dpiqa.exit_codes import ExitCode, SignalExitCode, exit_code
from dpiqa.extras import missing_library, required_for
from dpiqa.files import expanded
from dpiqa.signals import ended_by_interrupt
from dpiqa.text import sanitise

#: Name of a command -> its path below `dpiqa.cli` (`folder.module:function`) and the first paragraph of its help.
Commands = Mapping[str, tuple[str, str]]
_UsageError: Any = typer.BadParameter.__mro__[2]  # ClickException; of Click, or of typer itself in new versions
#: What typer says of an option or argument whose file must exist.
_MISSING_FILE = re.compile(r"'.*' does not exist\.$", re.DOTALL)
_CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"]}


class LazyCommand(TyperCommand):
    """Entry of a group: listed with its help, without importing the module of the command."""

    def load(self) -> TyperCommand:
        """Import the module and return the command."""
        command: TyperCommand = self.callback()  # type: ignore[misc]  # set by `add_commands`
        return command


class LazyGroup(TyperGroup):
    """Group that imports the module of the command that runs (Click's lazily loaded subcommands).

    The group's `--help` and the suggestions for a mistyped name need no import.
    """

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the command that `args` begin with, and import it. Raises `ConfigurationError` for a missing library."""
        name, command, rest = super().resolve_command(ctx, args)
        if isinstance(command, LazyCommand):
            with required_for(f"{ctx.command_path} {name}"), ended_by_interrupt():
                command = command.load()
        return name, command, rest


class DefaultGroup(LazyGroup):
    """Group with a command that runs where none is named: `dpiqa jobs --json` is `dpiqa jobs list --json`."""

    default: str

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert the default command where options or nothing follow the group."""
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = [self.default, *args]
        return super().parse_args(ctx, args)


class ErrorLineGroup(LazyGroup):
    """Root group: a user's mistake ends in one line and a stable exit code, never in a traceback."""

    def make_context(self, *args: Any, **options: Any) -> Any:
        """Parse the command line up to the command."""
        with _sanitised():
            return super().make_context(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            with _sanitised():
                return super().invoke(ctx)
        except DpiqaError as error:
            _end(error)
        except ModuleNotFoundError as error:
            _end(missing_library(error, f"dpiqa {ctx.invoked_subcommand}"))
        except OSError as error:
            if not show_os_error(error):
                raise
            raise typer.Exit(ExitCode.CONFIGURATION) from None
        except KeyboardInterrupt:
            raise typer.Exit(SignalExitCode.INTERRUPTED) from None


@contextmanager
def _sanitised() -> Iterator[None]:
    """Make words of the command line that are quoted in an error safe to show."""
    try:
        yield
    except _UsageError as error:
        error.message = sanitise(error.message)
        for name in ("option_name", "filename", "ui_filename"):
            if isinstance(text := getattr(error, name, None), str):
                setattr(error, name, sanitise(text))
        raise


def _end(error: DpiqaError) -> NoReturn:
    show_error(error.message, error.hint)
    raise typer.Exit(exit_code(error)) from error


def new_group(
    name: str, text: str, examples: list[str], cls: type[LazyGroup] = LazyGroup, **options: Any
) -> typer.Typer:
    """Return an empty group of commands."""
    return typer.Typer(
        name=name,
        cls=cls,
        help=_unwrapped(text),
        epilog=_epilog(examples),
        no_args_is_help=True,
        context_settings=_CONTEXT,
        **options,
    )


def add_commands(group: typer.Typer, commands: Commands, **options: Any) -> None:
    """Add commands that are imported when they run. `options`: those of `typer.Typer.command`."""
    for name, (path, text) in commands.items():
        group.command(name, cls=LazyCommand, help=text, **options)(_loader(f"dpiqa.cli.{path}"))


def _loader(path: str) -> Callable[[], Any]:
    def load() -> Any:
        return resolve_name(path)

    return load


def add_group(
    parent: typer.Typer,
    name: str,
    text: str,
    examples: list[str],
    commands: Commands,
    *,
    panel: str | None = None,
    default: str | None = None,
) -> None:
    """Add a group of commands that are imported when they run.

    `panel`: where the parent's --help lists it. `default`: the command that runs where none is named.
    """
    cls = LazyGroup if default is None else type("DefaultGroup", (DefaultGroup,), {"default": default})
    group = new_group(name, text, examples, cls)
    if len(commands) == 1:  # typer would make the one command the group itself
        group.callback()(lambda: None)
    add_commands(group, commands)
    parent.add_typer(group, rich_help_panel=panel)


class PlainCommand(TyperCommand):
    """Command whose messages about a wrong value begin with what is wrong."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line. Raises `typer.BadParameter` without the name of pydantic's error."""
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            error.message = error.message.replace("Value error, ", "")
            if _MISSING_FILE.search(error.message):  # one exit code, also where a command looks itself
                raise NotFound(sanitise(error.message), hint="check the path") from None
            raise


@dataclass(frozen=True)
class GroupSpec:
    """The arguments of `add_group`, for groups that are listed apart."""

    name: str
    text: str
    examples: list[str]
    commands: Commands
    panel: str | None = None


def command(
    name: str, *examples: str, context_settings: Mapping[str, Any] = MappingProxyType({}), **options: Any
) -> Callable[[Callable[..., None]], TyperCommand]:
    """Make a function a command, with the examples that its `--help` shows."""

    def make(function: Callable[..., None]) -> TyperCommand:
        single = typer.Typer(add_completion=False)
        text = _unwrapped(inspect.getdoc(function) or "")
        context = {**_CONTEXT, **context_settings}
        single.command(
            name, cls=PlainCommand, help=text, epilog=_epilog(list(examples)), context_settings=context, **options
        )(function)
        made = typer.main.get_command(single)
        assert isinstance(made, TyperCommand)  # noqa: S101 - typer makes a group only of several commands
        kinds = inspect.signature(function).parameters
        for parameter in made.params:
            if parameter.name in kinds:
                _name_value(parameter, kinds[parameter.name].annotation)
            if parameter.name in kinds and _holds_path(kinds[parameter.name].annotation):
                _expand(parameter)
        return made

    return make


def _name_value(parameter: Any, annotation: Any) -> None:
    """Let the help name a value in one style: `PREFIX`, `N` or the choices, instead of `<str>` and `{prefix}`."""
    kind = _value_type(annotation)
    if kind is bool or parameter.param_type_name == "argument":
        parameter.display_type_rich = lambda **_: ""
    if parameter.param_type_name == "argument":  # typer adds brackets and dots
        parameter.metavar = (parameter.metavar or parameter.name.upper()).removesuffix("...").strip("[]")
    elif parameter.metavar is None and isinstance(kind, type) and issubclass(kind, Enum):
        parameter.metavar = "|".join(str(choice.value) for choice in kind)
    elif parameter.metavar is None and kind is not bool:
        name = max(parameter.opts, key=len).rpartition("-")[2].upper()
        parameter.metavar = {int: "N", float: "NUMBER"}.get(kind, name)


def _value_type(annotation: Any) -> Any:
    """Return the type of one value: `int` of `Annotated[list[int] | None, ...]`."""
    parts = [part for part in get_args(annotation) if part is not NoneType]
    return _value_type(parts[0]) if parts else annotation


def _holds_path(annotation: Any) -> bool:
    return annotation is Path or any(_holds_path(part) for part in get_args(annotation))


def _expand(parameter: Any) -> None:
    """Let a parameter replace `~`: shells do it for words of their own, and not in `--data=~/photos`."""
    consume = parameter.consume_value

    def consume_value(*arguments: Any) -> tuple[Any, Any]:
        value, source = consume(*arguments)
        if isinstance(value, list | tuple):
            return [str(expanded(path)) for path in value], source
        return str(expanded(value)) if isinstance(value, str) else value, source

    parameter.consume_value = consume_value


def _unwrapped(text: str) -> str:
    """Return paragraphs on one line each: the terminal's width decides where they break."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _epilog(examples: list[str]) -> str:
    title = "Example:" if len(examples) == 1 else "Examples:"
    return "\n\n".join([title, *examples])
