"""What commands stand on: settings, the database, the doorbell. All imported when used."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from dpiqa.profiles import Profile
    from dpiqa.settings import Settings


def settings(**overrides: Any) -> "Settings":
    """Read the settings; overrides that are None count as not given. Raises `ConfigurationError`.

    Log lines go to stderr from here on, errors only unless a level was chosen: people see our own messages.
    """
    from dpiqa.logs import configure_logging
    from dpiqa.settings import load_settings

    found = load_settings(**{name: value for name, value in overrides.items() if value is not None})
    chosen = "log_level" in found.model_fields_set
    configure_logging(found if chosen else found.model_copy(update={"log_level": "error"}))
    return found


def profile(chosen: "Settings") -> "Profile":
    """Return the profile that the settings (with a command's --profile in them) name. Raises `NotFound`."""
    from dpiqa.profiles import load_profile

    return load_profile(chosen.profile, chosen.profiles_dir)


@contextmanager
def database(chosen: "Settings | None" = None) -> "Iterator[Engine]":
    """Yield an engine on the configured database; its connections end with the block."""
    from dpiqa.storage.engine import make_engine

    url = (chosen or settings()).require_database_url()
    engine = make_engine(url, pool_size=1, application_name="dpiqa-cli")
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def connection(chosen: "Settings | None" = None) -> "Iterator[Connection]":
    """Yield a connection within one transaction."""
    from dpiqa.storage.engine import transaction

    with database(chosen) as engine, transaction(engine) as found:
        yield found
