"""`dpiqa keys` and its commands: keys of the API. They talk to the database: who may use them has its password."""

import sys
from datetime import timedelta
from typing import Annotated, Any

import typer

from dpiqa.access import Grants
from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.storage.api_keys import ApiKey, KeyRequest, create_key, list_keys, revoke_keys
from dpiqa.types import KeyScope

ScopesOption = Annotated[
    list[KeyScope] | None,
    typer.Option(
        "--scope",
        help="What it permits; may be repeated. read: jobs, scores, statistics, exports; submit: jobs, watches, "
        "requirements, reconciliations, their changes, and events; events: POST /v1/events alone; admin: everything. "
        "read by default.",
    ),
]
GrantsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--grant",
        help="Limit it to this bucket or prefix; may be repeated. Everything by default.",
        metavar="S3_ADDRESS",
    ),
]
ExpiresOption = Annotated[
    str | None, typer.Option("--expires-in", help="Time after which it ends: 12h, 90d, 52w. Never by default.")
]
RateOption = Annotated[
    int | None,
    typer.Option(min=1, max=10_000_000, help="Requests that an API process answers; DPIQA_REQUESTS_PER_MINUTE."),
]
OpenJobsOption = Annotated[
    int | None, typer.Option(min=1, max=1_000_000, help="Its jobs that have not ended; DPIQA_MAX_OPEN_JOBS.")
]
EndedOption = Annotated[bool, typer.Option("--ended", help="Also keys that expired or were revoked.")]


@command(
    "create",
    "dpiqa keys create dashboard",
    "dpiqa keys create uploader --scope read --scope submit --grant s3://photos/inbox/ --expires-in 90d",
    "dpiqa keys create minio --scope events --grant s3://photos/",
)
def create(
    name: Annotated[str, typer.Argument(help="The client that will use it; jobs and the audit name it.")],
    scope: ScopesOption = None,
    grant: GrantsOption = None,
    expires_in: ExpiresOption = None,
    requests_per_minute: RateOption = None,
    max_open_jobs: OpenJobsOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Make a key of the API and print it, once: only its hash is stored.

    A name has at most two live keys. To replace a key without a gap, make a second one of the same name, which has the
    same rights; give it to the client; then revoke the first one by its id.
    """
    lifetime: timedelta | None = None if expires_in is None else options.parse_age(expires_in)
    request = KeyRequest(
        name=name,
        scopes=scope or (),
        grants=Grants.of(grant) if grant else None,
        requests_per_minute=requests_per_minute,
        max_open_jobs=max_open_jobs,
        lifetime=lifetime,
    )
    with context.connection() as connection:
        key, text = create_key(connection, request)
    if as_json:
        console.print_json("api-key@1", {"key": text, **_described(key)})
        return
    sys.stdout.write(f"{text}\n")
    console.note(f"this is shown once. {key.prefix}... is {_rights(key)}")


@command("list", "dpiqa keys list", "dpiqa keys list --ended --json")
def list_all(ended: EndedOption = False, as_json: options.JsonOption = False) -> None:
    """List the live keys by name: what each permits, when it was used last, and when it ends."""
    with context.connection() as connection:
        keys = list_keys(connection, ended=ended)
    if as_json:
        console.print_json("api-key@1", [_described(key) for key in keys])
    elif keys:
        names = ("id", "name", "scopes", "grants", "state", "last used", "expires")
        rows = [
            (
                key.id,
                key.name,
                " ".join(sorted(key.scopes)),
                "everything" if key.grants.texts is None else " ".join(key.grants.texts),
                _state(key),
                key.last_used_at or "never",
                key.expires_at or "never",
            )
            for key in keys
        ]
        console.table(names, rows, whole=("id",), droppable=("expires", "state"))
    else:
        console.note("no keys yet: `dpiqa keys create NAME` makes one")


@command("revoke", "dpiqa keys revoke 4f1c2a9be077", "dpiqa keys revoke uploader")
def revoke(
    key: Annotated[str, typer.Argument(help="Id of a key, or the name of a client: all its keys.", metavar="KEY")],
    as_json: options.JsonOption = False,
) -> None:
    """Revoke a key, or all keys of a client. API processes refuse it within five seconds; its jobs go on."""
    with context.connection() as connection:
        revoked = revoke_keys(connection, key)
    if as_json:
        console.print_json("api-key@1", [_described(one) for one in revoked])
    else:
        console.note(f"revoked: {', '.join(f'{one.id} ({one.name})' for one in revoked)}")


def _state(key: ApiKey) -> str:
    if key.is_live:
        return "live"
    return "expired" if key.revoked_at is None else "revoked"


def _rights(key: ApiKey) -> str:
    """Return in words what a key permits."""
    reach = "all buckets" if key.grants.texts is None else ", ".join(key.grants.texts)
    end = "" if key.expires_at is None else f", until {console.as_text(key.expires_at)}"
    return f"{key.name}'s: {' and '.join(sorted(key.scopes))} in {reach}{end}"


def _described(key: ApiKey) -> dict[str, Any]:
    """Return what is shown of a key; its text is not known."""
    return {
        "id": key.id,
        "prefix": key.prefix,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "grants": key.grants.stored(),
        "requests_per_minute": key.requests_per_minute,
        "max_open_jobs": key.max_open_jobs,
        "state": _state(key),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "last_used_at": key.last_used_at,
    }
