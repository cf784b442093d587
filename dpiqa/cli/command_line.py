"""The command that is running, in words that may be published."""

import shlex
from pathlib import Path
from typing import Any

import typer

from dpiqa.provenance import shareable_path


def typed(context: typer.Context, *, without: frozenset[str]) -> str:
    """Return the running command with the arguments and options that were given, in shell's words and --help's order.

    `without`: names of parameters that do not belong to what is said, such as `as_json`. Absolute paths are named by
    their last part.
    """
    words = ["dpiqa", *_names(context)]
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if name not in without and source is not None and source.name == "COMMANDLINE":
            words += _words(parameter, context.params[name])
    return shlex.join(words)


def _names(context: Any) -> list[str]:
    """Names of the groups and the command below the root."""
    return [] if context.parent is None else [*_names(context.parent), context.info_name or ""]


def _words(parameter: Any, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [parameter.opts[0]] if value else []
    values = value if isinstance(value, list | tuple) else [value]
    if parameter.param_type_name == "argument":
        return [_word(one) for one in values]
    return [word for one in values for word in (parameter.opts[0], _word(one))]


def _word(value: Any) -> str:
    return shareable_path(str(value)) if isinstance(value, Path) else str(value)
