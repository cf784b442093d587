"""Command lines of our processes, made of settings: arguments, and variables for the environment.

Secrets are in the environment, never in the arguments, which every user of the machine can read.
"""

import secrets
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import SecretStr

from dpiqa.doorbell import Queue
from dpiqa.local.process import python
from dpiqa.pipeline.slots import CHUNKS_AT_ONCE, SPARE_THREADS
from dpiqa.settings import PREFIX, Settings
from dpiqa.types import Stage

#: Arguments, and variables to add to the environment.
Launch: TypeAlias = tuple[list[str], dict[str, str]]

_QUEUES = {
    Stage.STUDENT: (Queue.LIVE, Queue.BULK, Queue.MAINTENANCE),
    Stage.TEACHER: (Queue.TEACHER, Queue.MAINTENANCE),
}


def worker_command(settings: Settings, stage: Stage | str, *, name: str | None = None) -> Launch:
    """Return the command of a worker. `name` must be unique on this host; by default the stage and random digits."""
    stage = Stage(stage)
    argv = python("dpiqa.workers", "--queues", ",".join(_QUEUES[stage]))
    argv += ["--concurrency", str(CHUNKS_AT_ONCE[stage] + SPARE_THREADS)]
    argv += ["--hostname", f"{name or f'{stage}-{secrets.token_hex(3)}'}@%h"]
    env = {"REMAP_SIGTERM": "SIGQUIT"}  # SIGTERM: release work, then end
    return argv, settings_env(settings.model_copy(update={"worker_stage": stage})) | env


def listen_command(settings: Settings) -> Launch:
    """Return the command of the listener."""
    return python("dpiqa.pipeline.listener"), settings_env(settings)


def api_command(settings: Settings) -> Launch:
    """Return the command of the HTTP API on `settings.api_host` and `api_port`."""
    return python("dpiqa.api"), settings_env(settings)


def flower_command(settings: Settings, *, port: int | None = None) -> Launch:
    """Return the command of Flower on `settings.flower_host`, in read-only mode.

    Its login is `settings.flower_basic_auth`; without one, `FLOWER_BASIC_AUTH` of the environment.
    """
    argv = python("celery", "--quiet", "--app", "dpiqa.workers.app", "flower")
    argv += [f"--address={settings.flower_host}", f"--port={port or settings.flower_port}"]
    login = settings.flower_basic_auth
    auth = {"FLOWER_BASIC_AUTH": login.get_secret_value()} if login else {}
    # Workers have other names after each start; those that ended are shown for a while.
    argv += ["--read-only=True", "--enable-events=False", "--purge-offline-workers=600"]
    return argv, settings_env(settings) | auth


def settings_env(settings: Settings) -> dict[str, str]:
    """Return the settings as variables, so that a process depends neither on a file nor on its working folder."""
    return {PREFIX + name.upper(): _text(getattr(settings, name)) for name in type(settings).model_fields}


def _text(value: Any) -> str:
    match value:
        case None:
            return ""
        case SecretStr():
            return value.get_secret_value()
        case Path():
            return str(value.absolute())
        case _:
            return str(value)
