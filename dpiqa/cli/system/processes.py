"""`dpiqa worker`, `listen`, `api`, `flower`: become the process in question."""

import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from dpiqa.cli.support import console, context
from dpiqa.cli.support.groups import command
from dpiqa.errors import ConfigurationError
from dpiqa.extras import require
from dpiqa.types import Stage

if TYPE_CHECKING:
    from dpiqa.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the commands."""
    panel = "Processes of the system"
    command(app, "worker", "dpiqa worker student", "dpiqa worker teacher", rich_help_panel=panel)(worker)
    command(app, "listen", "dpiqa listen", rich_help_panel=panel)(listen)
    command(app, "api", "dpiqa api", "dpiqa api --host 0.0.0.0 --port 8080", rich_help_panel=panel)(api)
    command(app, "flower", "dpiqa flower", rich_help_panel=panel)(flower)


def worker(stage: Annotated[Stage, typer.Argument(help="Which model this worker serves.")]) -> None:
    """Score queued images with the students or the teachers of the profiles. Ctrl-C ends it after its batch."""
    from dpiqa.local.commands import worker_command

    require("celery", "a worker")
    _become(*worker_command(context.settings(), stage))


def listen() -> None:
    """Read the S3 events of DPIQA_QUEUE_URL (SQS) and queue the images they name."""
    from dpiqa.local.commands import listen_command

    require("celery", "the listener")
    settings = context.settings()
    settings.require_queue_url()
    _become(*listen_command(settings))


def api(
    host: Annotated[str | None, typer.Option(help="Address to listen on; DPIQA_API_HOST by default.")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port; DPIQA_API_PORT by default.", min=0, max=65535)] = None,
) -> None:
    """Serve the HTTP API. Off loopback it needs DPIQA_API_KEY."""
    from dpiqa.local.commands import api_command

    _become(*api_command(context.settings(api_host=host, api_port=port)))


def flower(
    host: Annotated[str | None, typer.Option(help="Address to listen on; DPIQA_FLOWER_HOST by default.")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port; DPIQA_FLOWER_PORT by default.", min=0, max=65535)] = None,
) -> None:
    """Serve Flower, the live view of workers and queues, behind a password and unable to change anything.

    The record of the work is in Postgres: `dpiqa jobs`.
    """
    from dpiqa.local.commands import flower_command

    require("flower", "Flower")
    settings = context.settings(flower_host=host, flower_port=port)
    settings.require_broker_url()
    argv, environment = flower_command(settings, port=settings.flower_port)
    _become(argv, environment | {"FLOWER_BASIC_AUTH": _flower_login(settings)})


def _flower_login(settings: "Settings") -> str:
    """Return `user:password`: the configured one, or a new one, which is shown."""
    if settings.flower_basic_auth is None:
        password = secrets.token_urlsafe(12)
        console.note(f"Flower on http://{settings.flower_host}:{settings.flower_port}, user dpiqa, password {password}")
        return f"dpiqa:{password}"
    login = settings.flower_basic_auth.get_secret_value()
    user, _, password = login.partition(":")
    if not user or not password:
        raise ConfigurationError("DPIQA_FLOWER_BASIC_AUTH is wrong", hint="write user:password")
    return login


def _become(argv: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Replace this process, so that signals reach the right one."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execvpe(argv[0], list(argv), {**os.environ, **environment})  # noqa: S606 - no shell on purpose
