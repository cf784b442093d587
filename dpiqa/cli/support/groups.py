"""How the commands hang together: groups, examples in every `--help`, errors as one line."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import typer
from typer.core import TyperGroup

from dpiqa.cli.support.console import show_error
from dpiqa.errors import DpiqaError
from dpiqa.exit_codes import exit_code

F = TypeVar("F", bound=Callable[..., Any])
_CONTEXT = {"help_option_names": ["-h", "--help"]}


class ErrorLineGroup(TyperGroup):
    """The root: what a user did wrong ends in one line and a stable exit code, never in a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except DpiqaError as error:
            show_error(error.message, error.hint)
            raise typer.Exit(exit_code(error)) from error
        except KeyboardInterrupt:
            raise typer.Exit(130) from None


def new_group(name: str, text: str, examples: list[str], **options: Any) -> typer.Typer:
    """Return an empty group of commands."""
    return typer.Typer(
        name=name,
        help=_unwrapped(text),
        epilog=_epilog(examples),
        no_args_is_help=True,
        context_settings=_CONTEXT,
        **options,
    )


def command(app: typer.Typer, name: str, *examples: str, **options: Any) -> Callable[[F], F]:
    """Register a command with the examples that its `--help` shows."""

    def register(function: F) -> F:
        text = _unwrapped(inspect.getdoc(function) or "")
        return app.command(name, help=text, epilog=_epilog(list(examples)), context_settings=_CONTEXT, **options)(
            function
        )

    return register


def _unwrapped(text: str) -> str:
    """Paragraphs on one line each: the terminal's width decides where they break."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _epilog(examples: list[str]) -> str:
    title = "Example:" if len(examples) == 1 else "Examples:"
    return "\n\n".join([title, *examples])
