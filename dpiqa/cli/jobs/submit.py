"""`dpiqa submit`: a bucket's prefix into the queue."""

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from dpiqa.addresses import S3Address, parse_s3
from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.doorbell import Queue, load_doorbell, ring_expand
from dpiqa.errors import InvalidRequest, NotFound, StoreUnavailable
from dpiqa.types import JobKind

if TYPE_CHECKING:
    from dpiqa.profiles import Profile
    from dpiqa.settings import Settings
    from dpiqa.storage.jobs import Job

Place = Annotated[str, typer.Argument(help="s3://bucket/prefix; a prefix, not a pattern.", metavar="S3_ADDRESS")]
Watch = Annotated[
    bool, typer.Option("--watch", help="Also score what the bucket's events announce under the prefix from now on.")
]
Requirement = Annotated[
    str | None,
    typer.Option(
        "--requirement",
        "-r",
        help="Score by this requirement and nothing else: NAME (its newest version) or NAME@VERSION.",
    ),
]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Show progress until all is scored, as `dpiqa watch`.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "submit",
        "dpiqa submit s3://photos/2024/",
        "dpiqa submit s3://photos/2024/ --profile student-only --follow",
        "dpiqa submit s3://photos/portraits/ --requirement portraits",
        "dpiqa submit s3://photos/inbox/ --watch",
    )(submit)


def submit(
    place: Place,
    profile: options.ProfileName = None,
    requirement: Requirement = None,
    watch: Watch = False,
    follow: Follow = False,
    as_json: options.Json = False,
) -> None:
    """Queue all images under a prefix for the workers. Prints the job's id.

    May be repeated: what the profile has scored before is not scored again.
    """
    address = parse_s3(place)
    if profile and requirement:
        raise InvalidRequest("--profile and --requirement exclude each other", hint="give one of them")
    settings = context.settings(profile=profile)
    settings.require_database_url()
    doorbell = load_doorbell(settings)
    _look(settings, address)
    job, standing = _create(settings, address, requirement, watch=watch)
    if warning := ring_expand(doorbell, str(job.id)):
        console.warn(warning)
    if standing:
        console.note(f"job {standing.id} watches {address} under {standing.profile}")
    if follow:
        from dpiqa.cli.jobs.follow import follow_job

        console.note(f"job {job.id} under {job.profile}")
        follow_job(settings, job.id, as_json=as_json)
    elif as_json:
        console.print_json(console.jsonable(job) | {"watch": standing and standing.id})
    else:
        typer.echo(job.id)
        console.note(f"{address} is submitted under {job.profile}; follow it with `dpiqa watch {job.id}`")


def _look(settings: "Settings", address: S3Address) -> None:
    """Raise `ConfigurationError` for a bucket that is not there. An S3 that does not answer is a warning only."""
    from dpiqa.objects.s3 import S3Store

    try:
        found = next(iter(S3Store.from_settings(settings).list(address.bucket, address.key)), None)
    except StoreUnavailable as error:
        console.warn(f"{error.message}; the job waits until the workers reach S3")
        return
    if not found:
        console.warn(f"no object is under {address}; keys are case-sensitive")


def _create(
    settings: "Settings", address: S3Address, requirement: str | None, *, watch: bool
) -> "tuple[Job, Job | None]":
    """Create the job, and before it the watch: no object may arrive between the two."""
    from dpiqa.storage.jobs import create_job, ensure_watch
    from dpiqa.storage.profiles import profile_for

    with context.connection(settings) as connection:
        chosen = profile_for(connection, requirement) if requirement else _suitable(settings)
        standing = ensure_watch(connection, address.bucket, address.key, chosen) if watch else None
        job = create_job(
            connection,
            kind=JobKind.PREFIX,
            bucket=address.bucket,
            prefix=address.key,
            profile=chosen,
            queue=Queue.BULK,
        )
    return job, standing


def _suitable(settings: "Settings") -> "Profile":
    """Return the settings' profile. Raises `ConfigurationError` where its models, as far as they are here, do not fit.

    A model that is not here may well be where the workers are.
    """
    from dpiqa.pipeline.scorers import check_choice

    chosen = context.profile(settings)
    for stage, choice in chosen.choices.items():
        with suppress(NotFound):
            check_choice(choice, settings, stage)
    return chosen
