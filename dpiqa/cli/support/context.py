"""Settings, profile and database of a command."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from getpass import getuser
from socket import gethostname
from typing import Any

from sqlalchemy import Connection, Engine

from dpiqa.access import Actor, acting_as
from dpiqa.errors import InvalidRequest
from dpiqa.logs import configure_logging
from dpiqa.profiles import Profile, load_profile
from dpiqa.settings import Settings, load_settings
from dpiqa.storage.engine import open_engine, transaction


def read_settings(**overrides: Any) -> Settings:
    """Read the settings; overrides that are None do not count. Raises `ConfigurationError`.

    Log lines go to stderr from here on, errors only unless a level was set: people see the command's own messages.
    """
    settings = load_settings(**{name: value for name, value in overrides.items() if value is not None})
    has_level = "log_level" in settings.model_fields_set
    configure_logging(settings if has_level else settings.model_copy(update={"log_level": "error"}))
    return settings


def profile(settings: Settings) -> Profile:
    """Return the profile that the settings (with a command's --profile in them) name. Raises `NotFound`."""
    return load_profile(settings.profile, settings.profiles_dir)


def profiles(settings: Settings, names: Sequence[str] | None) -> list[Profile]:
    """Return the profiles that a command's --profile names, or the settings' own. Raises as `load_profile`.

    Raises `InvalidRequest` for a profile that is named twice.
    """
    named = [load_profile(name, settings.profiles_dir) for name in names or [settings.profile]]
    if len({profile.id for profile in named}) < len(named):
        raise InvalidRequest("a profile is named twice", hint="name each profile once")
    return named


@contextmanager
def database(settings: Settings | None = None) -> Iterator[Engine]:
    """Yield an engine on the configured database; its connections end with the block."""
    engine = open_engine(settings or read_settings(), "dpiqa-cli", pool_size=1)
    try:
        with acting_as(Actor(name="cli", account=f"{_user()}@{gethostname()}")):
            yield engine
    finally:
        engine.dispose()


def _user() -> str:
    try:
        return getuser()
    except (OSError, KeyError):  # a user without a name, as in containers
        return str(os.getuid())


@contextmanager
def connection(settings: Settings | None = None) -> Iterator[Connection]:
    """Yield a connection within one transaction."""
    with database(settings) as engine, transaction(engine) as connection:
        yield connection
