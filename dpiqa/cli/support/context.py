"""Settings, profile and database of a command. SQLAlchemy takes long to import: only commands with a database do it."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cache
from getpass import getuser
from socket import gethostname
from typing import TYPE_CHECKING, Any

from pydantic_settings import DotEnvSettingsSource

from dpiqa.access import Actor, acting_as
from dpiqa.cli.support import console
from dpiqa.errors import InvalidRequest
from dpiqa.logs import configure_logging
from dpiqa.profiles import Profile, load_profile
from dpiqa.settings import PREFIX, Settings, load_settings

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

_OF_OURS = tuple(f"DPIQA_{name}" for name in ("TEST_", "BENCHMARK_", "LABELS_DIR"))  #: read by tests and benchmarks
#: What Kubernetes sets in every container for a service named `dpiqa-...`.
_SERVICE_LINK = re.compile(r"DPIQA_.*(_SERVICE_HOST|_SERVICE_PORT(_.*)?|_PORT_\d+_(TCP|UDP)(_.*)?)")


def read_settings(**overrides: Any) -> Settings:
    """Read the settings; overrides that are None do not count. Raises `ConfigurationError`.

    Log lines go to stderr from here on, errors only unless a level was set: people see the command's own messages.
    """
    warn_of_unknown_variables()
    settings = load_settings(**{name: value for name, value in overrides.items() if value is not None})
    has_level = "log_level" in settings.model_fields_set
    configure_logging(settings if has_level else settings.model_copy(update={"log_level": "error"}))
    return settings


def warn_of_unknown_variables() -> None:
    """Warn, once each, of `DPIQA_...` variables in the environment and in `.env` that name no setting."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    given = {name.upper(): value for name, value in DotEnvSettingsSource(Settings).env_vars.items()}
    given |= {name.upper(): value for name, value in os.environ.items()}
    for name in sorted(given.keys() - known):
        is_link = _SERVICE_LINK.fullmatch(name) or (given[name] or "").startswith(("tcp://", "udp://"))
        if name.startswith(PREFIX) and not name.startswith(_OF_OURS) and not is_link:
            _warn_of(name, *get_close_matches(name, known, 1))


@cache
def _warn_of(name: str, *nearest: str) -> None:
    did_you_mean = f"did you mean {nearest[0]}?" if nearest else "`dpiqa config show` lists the settings"
    console.warn(f"{name} is not a setting and has no effect: {did_you_mean}")


def profile(settings: Settings) -> Profile:
    """Return the profile that the settings (with a command's --profile in them) name. Raises `NotFound`."""
    return load_profile(settings.profile, settings.profiles_dir)


def profiles(settings: Settings, names: Sequence[str] | None) -> list[Profile]:
    """Return the profiles that a command's --profile names, or the settings' own. Raises as `load_profile`.

    Raises `InvalidRequest` for a profile that is named twice.
    """
    return _each_once([load_profile(name, settings.profiles_dir) for name in names or [settings.profile]])


def submitted_profiles(c: "Connection", settings: Settings, names: Sequence[str] | None) -> list[Profile]:
    """Return the same of files or, where no file has a name, of the ledger. Raises as `profiles`."""
    if not names:
        return profiles(settings, names)
    from dpiqa.storage.saved_profiles import find_named_profile  # noqa: PLC0415 - only where a job is submitted

    return _each_once([find_named_profile(c, name, settings.profiles_dir) for name in names])


def _each_once(named: list[Profile]) -> list[Profile]:
    if len({profile.id for profile in named}) < len(named):
        raise InvalidRequest("a profile is named twice", hint="name each profile once")
    return named


@contextmanager
def database(settings: Settings | None = None) -> "Iterator[Engine]":
    """Yield an engine on the configured database; its connections end with the block."""
    from dpiqa.storage.engine import open_engine  # noqa: PLC0415 - see above

    engine = open_engine(settings or read_settings(), "dpiqa-cli", pool_size=1, custom_plans=True)
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
def connection(settings: Settings | None = None) -> "Iterator[Connection]":
    """Yield a connection within one transaction."""
    from dpiqa.storage.engine import transaction  # noqa: PLC0415 - see above

    with database(settings) as engine, transaction(engine) as connection:
        yield connection
