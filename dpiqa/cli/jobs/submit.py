"""`dpiqa submit`: queue a bucket prefix."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Annotated

import typer

from dpiqa.addresses import S3Address, parse_s3
from dpiqa.cli.jobs.follow import follow_job
from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.doorbell import load_doorbell, ring_expand
from dpiqa.errors import InvalidRequest, NotFound, StoreUnavailable
from dpiqa.objects.s3 import S3Store
from dpiqa.pipeline.scorers import check_choice
from dpiqa.profiles import Profile
from dpiqa.settings import Settings
from dpiqa.storage.jobs import Job, ensure_watch, submit_job
from dpiqa.storage.profiles import profile_for
from dpiqa.types import JobKind

AddressArgument = Annotated[
    str, typer.Argument(help="s3://bucket/prefix; a prefix, not a pattern.", metavar="S3_ADDRESS")
]
WatchOption = Annotated[
    bool, typer.Option("--watch", help="Also score what the bucket's events announce under the prefix from now on.")
]
RequirementOption = Annotated[
    str | None,
    typer.Option(
        "--requirement",
        "-r",
        help="Score by this requirement and nothing else: NAME (its newest version) or NAME@VERSION.",
    ),
]
FollowOption = Annotated[
    bool, typer.Option("--follow", "-f", help="Show progress until all is scored, as `dpiqa follow`.")
]


@command(
    "submit",
    "dpiqa submit s3://photos/2024/",
    "dpiqa submit s3://photos/2024/ --profile student-only --follow",
    "dpiqa submit s3://photos/2024/ --profile default --profile student-only",
    "dpiqa submit s3://photos/portraits/ --requirement portraits",
    "dpiqa submit s3://photos/inbox/ --watch",
)
def submit(
    s3_address: AddressArgument,
    profile: options.ProfilesOption = None,
    requirement: RequirementOption = None,
    watch: WatchOption = False,
    follow: FollowOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Queue all images under a prefix for the workers. Prints the job's id.

    May be repeated: what the profile has scored before is not scored again.
    """
    address = parse_s3(s3_address)
    if profile and requirement:
        raise InvalidRequest("--profile and --requirement cannot be combined", hint="pass only one")
    settings = context.read_settings()
    settings.require_database_url()
    profiles = [] if requirement else context.profiles(settings, profile)
    _check_profiles(settings, profiles)
    doorbell = load_doorbell(settings)
    _check_address(settings, address)
    job, standing_watch = _create(settings, address, profiles, requirement, watch=watch)
    under = ", ".join(job.profiles)
    if warning := ring_expand(doorbell, str(job.id)):
        console.warn(warning)
    if standing_watch:
        console.note(f"job {standing_watch.id} watches {address} under {under}")
    if follow:
        console.note(f"job {job.id} under {under}")
        follow_job(settings, job.id, as_json=as_json)
    elif as_json:
        console.print_json(console.jsonable(job) | {"watch": standing_watch and standing_watch.id})
    else:
        typer.echo(job.id)
        console.note(f"{address} is submitted under {under}; follow it with `dpiqa follow {job.id}`")


def _check_address(settings: Settings, address: S3Address) -> None:
    """Raise `ConfigurationError` for a bucket that does not exist. An S3 that does not answer is only a warning."""
    try:
        first_page = next(iter(S3Store.from_settings(settings).list(address.bucket, address.key)), None)
    except StoreUnavailable as error:
        console.warn(f"{error.message}; the job waits until the workers reach S3")
        return
    if not first_page:
        console.warn(f"no object is under {address}; keys are case-sensitive")


def _create(
    settings: Settings, address: S3Address, profiles: list[Profile], requirement: str | None, *, watch: bool
) -> tuple[Job, Job | None]:
    """Create the job, and before it the watch: no object may arrive between the two."""
    with context.connection(settings) as connection:
        if requirement:
            profiles = [profile_for(connection, requirement)]
        standing_watch = ensure_watch(connection, address.bucket, address.key, profiles) if watch else None
        job = submit_job(connection, kind=JobKind.PREFIX, bucket=address.bucket, prefix=address.key, profile=profiles)
    return job, standing_watch


def _check_profiles(settings: Settings, profiles: Iterable[Profile]) -> None:
    """Raise `ConfigurationError` where a model does not fit its stage.

    A model that is not on this machine may well be where the workers are, and is not checked.
    """
    for profile in profiles:
        for stage, choice in profile.choices.items():
            with suppress(NotFound):
                check_choice(choice, settings, stage)
