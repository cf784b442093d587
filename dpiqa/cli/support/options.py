"""Options that several commands share, what users type to name things, and the command line as it was typed."""

import shlex
import uuid
from pathlib import Path
from typing import Annotated, Any

import typer

from dpiqa.errors import InvalidRequest
from dpiqa.provenance import shareable_path

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Write all rows to this .csv, .jsonl or .parquet file.", dir_okay=False),
]
Limit = Annotated[int | None, typer.Option("--limit", "-n", min=1, help="At most so many rows.")]
ProfileName = Annotated[
    str | None,
    typer.Option("--profile", "-p", help="Profile by name or id (`dpiqa profiles list`); DPIQA_PROFILE by default."),
]
JobId = Annotated[
    str, typer.Argument(help="Job id, as `dpiqa submit` and `dpiqa jobs` print it.", metavar="JOB", show_default=False)
]


def parse_job_id(text: str) -> uuid.UUID:
    """Read a job id. Raises `InvalidRequest`."""
    try:
        return uuid.UUID(text)
    except ValueError:
        raise InvalidRequest(f"{text!r} is no job id", hint="`dpiqa jobs` lists them") from None


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
