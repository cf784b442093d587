"""Finds the doorbell: the one way from the library and the API to the workers' queues."""

from importlib.metadata import entry_points
from typing import cast

from dpiqa.errors import ConfigurationError
from dpiqa.messages import Doorbell
from dpiqa.settings import Settings

GROUP = "dpiqa.doorbell"


def load_doorbell(settings: Settings) -> Doorbell:
    """Return the installed doorbell for the settings' broker. It connects when it is first rung.

    Raises `ConfigurationError` when no broker is configured or the workers' part of the package is not installed.
    """
    broker_url = settings.require_broker_url()
    found = sorted(entry_points(group=GROUP), key=lambda entry: entry.name)
    if not found:
        raise ConfigurationError(
            f"no doorbell is installed (entry point group {GROUP})", cure="install the package again: pip install dpiqa"
        )
    return cast("Doorbell", found[0].load()(broker_url))
