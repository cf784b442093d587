"""`dpiqa worker`, `listen`, `api`, `flower`: replace this process by the named one."""

import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, NoReturn

import typer

from dpiqa.broker_url import BrokerKind
from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.cli.system.devices import run_each, worker_commands
from dpiqa.doorbell import load_doorbell
from dpiqa.errors import ConfigurationError
from dpiqa.extras import require
from dpiqa.local.commands import api_command, flower_command, listen_command
from dpiqa.pipeline.startup import require_port
from dpiqa.settings import Settings
from dpiqa.types import Stage


@command("worker", "dpiqa worker student", "dpiqa worker teacher --device cuda:0,cuda:1")
def worker(
    stage: Annotated[Stage, typer.Argument(help="Stage whose models this worker runs.")],
    device: Annotated[
        str | None,
        typer.Option(help="auto, cpu, cuda or cuda:N; several, separated by commas, have a process each."),
    ] = None,
    backend: options.BackendOption = None,
) -> None:
    """Score queued images with the students or the teachers of the profiles. Ctrl-C ends it after its batch."""
    require("celery", "a worker")
    commands = worker_commands(context.read_settings(device=device, backend=backend), stage)
    if len(commands) == 1:
        _become(*commands[0])
    raise typer.Exit(run_each(commands))


@command("listen", "dpiqa listen")
def listen() -> None:
    """Read the S3 events of DPIQA_QUEUE_URL (SQS) and queue the images they name."""
    settings = context.read_settings()
    settings.require_queue_url()
    require("celery", "the listener")
    _become(*listen_command(settings))


@command("api", "dpiqa api", "dpiqa api --host 0.0.0.0 --port 8080")
def api(
    host: Annotated[str | None, typer.Option(help="Address to listen on; DPIQA_API_HOST by default.")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port; DPIQA_API_PORT by default.", min=0, max=65535)] = None,
) -> None:
    """Serve the HTTP API. Off loopback it needs DPIQA_API_KEY, or DPIQA_REQUIRE_KEY and `dpiqa keys create`."""
    settings = context.read_settings(api_host=host, api_port=port)
    require_port("the API", settings.api_host, settings.api_port, "DPIQA_API_PORT")
    _become(*api_command(settings))


@command("flower", "dpiqa flower")
def flower(
    host: Annotated[str | None, typer.Option(help="Address to listen on; DPIQA_FLOWER_HOST by default.")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port; DPIQA_FLOWER_PORT by default.", min=0, max=65535)] = None,
) -> None:
    """Serve Flower, the live view of workers and queues, behind a password and unable to change anything.

    The record of the work is in Postgres: `dpiqa jobs`.
    """
    settings = context.read_settings(flower_host=host, flower_port=port)
    require("flower", "Flower")
    if settings.require_broker_url().kind is BrokerKind.SQS:
        hint = "`dpiqa workers`, `dpiqa jobs` and /metrics show the work"
        raise ConfigurationError("Flower shows nothing over SQS, which has no events of workers", hint=hint)
    load_doorbell(settings)
    require_port("Flower", settings.flower_host, settings.flower_port, "DPIQA_FLOWER_PORT")
    argv, environment = flower_command(settings, port=settings.flower_port)
    _become(argv, environment | {"FLOWER_BASIC_AUTH": _flower_login(settings)})


def _flower_login(settings: Settings) -> str:
    """Return `user:password`: the configured one, or a new one, which is printed."""
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
    """Replace this process by the command, so that signals reach the command itself."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execvpe(argv[0], list(argv), {**os.environ, **environment})  # noqa: S606 - no shell on purpose
