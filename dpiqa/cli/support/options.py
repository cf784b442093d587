"""Options and arguments that several commands share, and the command line as it may be published."""

import re
import shlex
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from dpiqa.errors import DpiqaError, InvalidRequest
from dpiqa.exports.formats import Format
from dpiqa.provenance import shareable_path
from dpiqa.types import Backend


class Split(StrEnum):
    """Images of a data set that count."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"
    ALL = "all"


JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
OutputOption = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        help="Write all rows to this file or s3://bucket/key, named .csv, .jsonl or .parquet; - is stdout.",
        metavar="FILE|S3_ADDRESS|-",
    ),
]
FormatOption = Annotated[
    Format | None, typer.Option("--format", help="Format of --output; by default what its name ends in.")
]
LimitOption = Annotated[int | None, typer.Option("--limit", "-n", min=1, help="Largest number of rows.")]
AutoPauseOption = Annotated[
    str | None,
    typer.Option(
        help="Pause the job when more than this share of its first 1,000 images cannot be scored, e.g. 50%, or off; "
        "DPIQA_AUTO_PAUSE_SHARE by default.",
        metavar="SHARE",
    ),
]
ReportOption = Annotated[
    str | None,
    typer.Option(
        help="Let a worker write a report when the job has ended, named .csv, .jsonl or .parquet.",
        metavar="S3_ADDRESS",
    ),
]
DetailsOption = Annotated[
    bool,
    typer.Option(
        "--details",
        help="Also measure each picture: size, sharpness, contrast, clipping, noise, blockiness, colour cast "
        "(docs/measures.md). Takes about 3 ms each.",
    ),
]
ReportFailuresOption = Annotated[
    bool, typer.Option("--report-failures", help="The report holds only the images that ended unscored.")
]


def complete_model(incomplete: str) -> list[tuple[str, str]]:
    """Return the names of models that begin so, each with its kind, for the shell."""
    from dpiqa.cli.support import context  # noqa: PLC0415 - only where the shell asks
    from dpiqa.models.cards import list_cards  # noqa: PLC0415 - only where the shell asks

    try:
        cards = list_cards(context.read_settings().models_dir)
    except DpiqaError:
        return []
    return [(card.name, card.kind.value) for card in cards if card.name.startswith(incomplete)]


def complete_profile(incomplete: str) -> list[tuple[str, str]]:
    """Return the names and ids of profiles that begin so, for the shell."""
    from dpiqa.cli.support import context  # noqa: PLC0415 - only where the shell asks
    from dpiqa.profiles import list_profiles  # noqa: PLC0415 - only where the shell asks

    try:
        profiles = list_profiles(context.read_settings().profiles_dir)
    except DpiqaError:
        return []
    names = {name: profile.description for profile in profiles for name in (profile.name, profile.id)}
    return [pair for pair in names.items() if pair[0].startswith(incomplete)]


def complete_requirement(incomplete: str) -> list[tuple[str, str]]:
    """Return the names of requirements that begin so, for the shell; none where the database fails."""
    from dpiqa.cli.support import context  # noqa: PLC0415 - only where the shell asks
    from dpiqa.storage.requirement_queries import list_requirements  # noqa: PLC0415 - only where the shell asks

    try:
        with context.connection() as connection:
            found = list_requirements(connection, limit=100).items
    except DpiqaError:
        return []
    return [(row.id, f"{row.n_pairs} pairs, {row.state}") for row in found if row.id.startswith(incomplete)]


def complete_job(incomplete: str) -> list[tuple[str, str]]:
    """Return the names of jobs that begin so, each with its address, for the shell; none where the database fails."""
    from dpiqa.cli.support import context  # noqa: PLC0415 - only where the shell asks
    from dpiqa.storage.job_queries import list_jobs  # noqa: PLC0415 - only where the shell asks
    from dpiqa.storage.jobs import LATEST  # noqa: PLC0415 - only where the shell asks

    try:
        with context.connection() as connection:
            names = [(str(job.id), f"{job.state} {job.address}") for job in list_jobs(connection, limit=100).items]
    except DpiqaError:
        return []
    return [pair for pair in [*names, (LATEST, "the job that was submitted last")] if pair[0].startswith(incomplete)]


ProfileOption = Annotated[
    str | None,
    typer.Option(
        "--profile",
        "-p",
        help="Profile by name or id (`dpiqa profiles list`); DPIQA_PROFILE by default.",
        autocompletion=complete_profile,
    ),
]


ProfilesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--profile",
        "-p",
        help="Profile by name or id (`dpiqa profiles list`); DPIQA_PROFILE by default. May be repeated: each image is "
        "read once and scored under each.",
        autocompletion=complete_profile,
    ),
]


_UNITS = {"h": "hours", "d": "days", "w": "weeks"}
_AGE = re.compile(r"(\d{1,5})([hdw])")


def parse_age(text: str) -> timedelta:
    """Read a span of time: `12h`, `30d`, `8w`. Raises `InvalidRequest`."""
    match = _AGE.fullmatch(text.strip().lower())
    if match is None:
        raise InvalidRequest(f"{text!r} is not an age", hint="a number and a unit: 12h, 30d, 8w")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def ago(text: str) -> datetime:
    """Return the time that is so long ago. Raises `InvalidRequest`."""
    return datetime.now(UTC) - parse_age(text)


def parse_time(option: str, text: str | None, *, zone: tzinfo | None = UTC) -> datetime | None:
    """Read a time, ISO 8601, or an age such as `30d` as the time that is so long ago; None where none was given.

    `zone`: of a time without one; None: that of this machine. Raises `InvalidRequest`.
    """
    if text is None:
        return None
    if _AGE.fullmatch(text.strip().lower()):
        return ago(text)
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        hint = "write for example 2026-05-17, 2026-05-17T18:30Z, or an age: 12h, 30d, 8w"
        raise InvalidRequest(f"{option} {text!r} is not a time", hint=hint) from None
    return at if at.tzinfo is not None else at.astimezone() if zone is None else at.replace(tzinfo=zone)


def check_job(name: str | None) -> str | None:
    """Return the name of a job, before anything is connected. Raises `InvalidRequest` for text that cannot be one."""
    from dpiqa.storage.jobs import check_job_name  # noqa: PLC0415 - only where a job is named

    return name if name is None else check_job_name(name)


_JOB_HELP = "Job: its id, the first 6 or more digits of the id, or `latest`."
JobArgument = Annotated[
    str,
    typer.Argument(help=_JOB_HELP, metavar="JOB", show_default=False, autocompletion=complete_job, callback=check_job),
]
JobOption = Annotated[
    str | None,
    typer.Option(
        "--job",
        help=f"Only images of this job. {_JOB_HELP}",
        metavar="JOB",
        autocompletion=complete_job,
        callback=check_job,
    ),
]
ModelArgument = Annotated[
    str,
    typer.Argument(
        help="Model, as `dpiqa models list` names it.",
        metavar="MODEL",
        show_default=False,
        autocompletion=complete_model,
    ),
]
DeviceOption = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N; DPIQA_DEVICE by default.")]
BackendOption = Annotated[
    Backend | None, typer.Option("--backend", help="Library that computes students; DPIQA_BACKEND by default.")
]
#: Requirement by which one PromptIQA model scores.
RequirementOption = Annotated[
    str | None,
    typer.Option(
        help="Requirement by which a PromptIQA model scores: NAME or NAME@VERSION (`dpiqa requirements list`).",
        autocompletion=complete_requirement,
    ),
]
DatasetsOption = Annotated[
    list[str] | None,
    typer.Option("--dataset", help="Data set by name (docs/datasets.md), or csv. May be repeated.", metavar="NAME"),
]
DatasetPathsOption = Annotated[
    list[Path] | None,
    typer.Option("--data", help="The data set's folder, or the CSV; one for each --dataset.", metavar="PATH"),
]


def command_line(context: typer.Context, *, without: frozenset[str]) -> str:
    """Return the running command with the arguments and options that were given, quoted for a shell.

    Options stand in the order of --help. `without`: names of parameters to leave out, such as `as_json`. Absolute paths
    are reduced to their last part.
    """
    words: list[str] = []
    level: Any = context
    while level.parent is not None:
        words.insert(0, level.info_name or "")
        level = level.parent
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if name not in without and source is not None and source.name == "COMMANDLINE":
            words += _words(parameter, context.params[name])
    return shlex.join(["dpiqa", *words])


def _words(parameter: Any, value: Any) -> list[str]:
    """Return one parameter as words of a command line."""
    if isinstance(value, bool):
        return [parameter.opts[0]] if value else []
    values = value if isinstance(value, list | tuple) else [value]
    texts = [shareable_path(str(item)) if isinstance(item, Path) else str(item) for item in values]
    if parameter.param_type_name == "argument":
        return texts
    return [word for text in texts for word in (parameter.opts[0], text)]
