"""RabbitMQ on loopback, from the system's package; tests that need it skip where it is not installed."""

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from dpiqa.local.process import Command, Server, free_port

PROGRAM = (
    "/usr/lib/rabbitmq/bin/rabbitmq-server"  #: not the wrapper on the path, which only root may run, as `rabbitmq`
)


class RabbitMQ(Server):
    """A node of its own, with a user `dpiqa`; with a certificate, TLS too."""

    name = "rabbitmq"
    start_seconds = 120
    password = "p@ss/w:rd?%"  # every character that a URL must encode

    def __init__(self, folder, log, certificate=None):
        super().__init__()
        if not Path(PROGRAM).exists():
            pytest.skip("RabbitMQ is not installed: apt-get install rabbitmq-server")
        self.folder, self.log, self.certificate = folder, log, certificate
        self.epmd_port, self.distribution_port, self.tls_port = free_port(), free_port(), free_port()

    @property
    def url(self):
        """Broker URL."""
        return f"amqp://dpiqa:p%40ss%2Fw%3Ard%3F%25@127.0.0.1:{self.port}//"

    @property
    def tls_url(self):
        """Broker URL over TLS."""
        return self.url.replace("amqp", "amqps").replace(f":{self.port}/", f":{self.tls_port}/")

    def command(self):
        """Write the configuration; return the command."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = [
            f"listeners.tcp.default = 127.0.0.1:{self.port}",
            "default_user = dpiqa",
            f"default_pass = {self.password}",
            "log.file.level = warning",
        ]
        if self.certificate:
            lines += [
                f"listeners.ssl.default = 127.0.0.1:{self.tls_port}",
                f"ssl_options.cacertfile = {self.certificate.authority}",
                f"ssl_options.certfile = {self.certificate.certificate}",
                f"ssl_options.keyfile = {self.certificate.key}",
            ]
        (self.folder / "rabbitmq.conf").write_text("\n".join(lines) + "\n")
        (self.folder / "plugins").write_text("[].\n")
        return Command(name=self.name, argv=[PROGRAM], log=self.log, cwd=self.folder, env=self.environment)

    @property
    def environment(self):
        """Variables that keep this node apart from every other."""
        return os.environ | {
            "HOME": str(self.folder),
            "RABBITMQ_NODENAME": f"t{self.port}@localhost",
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_DIST_PORT": str(self.distribution_port),
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }

    def control(self, *words):
        """Run `rabbitmqctl`; return its output."""
        argv = [str(Path(PROGRAM).with_name("rabbitmqctl")), "-q", *words]
        return subprocess.run(argv, env=self.environment, capture_output=True, text=True, check=True).stdout

    def is_ready(self):
        """Return whether it takes connections."""
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self):
        """Stop it, and the daemon of names that it started."""
        super().stop()
        epmd = shutil.which("epmd")
        if epmd:
            subprocess.run(
                [epmd, "-port", str(self.epmd_port), "-kill"], env=self.environment, capture_output=True, check=False
            )
