"""Redis and Valkey servers of other kinds: with TLS, on a Unix socket, and with Sentinels."""

import contextlib
import shutil
import ssl
import subprocess

import redis

from dpiqa.local.process import Command, free_port, spawn, wait_ready
from dpiqa.local.valkey import Valkey

from .proxy import Proxy


class RawServer:
    """One process of the server program, with configuration lines of a test."""

    def __init__(self, folder, *lines, program=None, argument=()):
        folder.mkdir(parents=True, exist_ok=True)
        self.program = program or Valkey(folder, folder / "log").program
        self.folder, self.port = folder, free_port()
        path = folder / "server.conf"
        path.write_text("\n".join([f"port {self.port}", "bind 127.0.0.1", f"dir {folder}", 'save ""', *lines]) + "\n")
        self.command = Command(
            name="server", argv=[str(self.program), str(path), *argument], log=folder / "log", cwd=folder
        )
        self.process = None

    def start(self, answers):
        """Start it and wait until `answers()` is true."""
        self.process = spawn(self.command)

        def ready():
            with contextlib.suppress(redis.RedisError, OSError):
                return answers()

        wait_ready(self.process, ready, 30)

    def stop(self):
        """Stop it."""
        if self.process is not None:
            self.process.stop()


def tls_program():
    """Return a server on the path that was built with TLS, or None: that of the wheel has none."""
    for name in ("valkey-server", "redis-server"):
        path = shutil.which(name)
        if path and "libssl" in subprocess.run(["ldd", path], capture_output=True, text=True, check=False).stdout:
            return path
    return None


class TlsProxy(Proxy):
    """Ends TLS in front of a server without it, as hosted services do."""

    def __init__(self, port, certificate):
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate.certificate, certificate.key)
        super().__init__(port)

    def _forward(self, client):
        try:
            client = self._context.wrap_socket(client, server_side=True)
        except OSError:
            client.close()
            return
        super()._forward(client)


class Sentinels:
    """A master, a replica, and three Sentinels that make the replica master when the master is gone."""

    def __init__(self, folder, password):
        self.password = password
        login = [f"requirepass {password}", f"masterauth {password}"]
        self.master = RawServer(folder / "master", *login)
        self.replica = RawServer(folder / "replica", *login, f"replicaof 127.0.0.1 {self.master.port}")
        watched = [
            f"sentinel monitor dpiqa 127.0.0.1 {self.master.port} 2",
            f"sentinel auth-pass dpiqa {password}",
            "sentinel down-after-milliseconds dpiqa 1000",
            "sentinel failover-timeout dpiqa 5000",
        ]
        self.sentinels = [RawServer(folder / f"sentinel-{n}", *watched, argument=["--sentinel"]) for n in range(3)]

    @property
    def url(self):
        """Broker URL."""
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"sentinel://:{self.password}@{hosts}/0?master_name=dpiqa"

    def start(self):
        """Start all, and wait until the Sentinels know each other and the replica."""
        for server in (self.master, self.replica):
            server.start(redis.Redis(port=server.port, password=self.password).ping)
        for sentinel in self.sentinels:
            sentinel.start(redis.Redis(port=sentinel.port).ping)

        def complete():
            states = [redis.Redis(port=s.port).sentinel_master("dpiqa") for s in self.sentinels]
            return all(state["num-slaves"] == 1 and state["num-other-sentinels"] == 2 for state in states)

        # On a busy machine they may take the master for gone, and replace it, before they know each other.
        wait_ready(self.sentinels[0].process, complete, 120)

    def master_port(self):
        """Return the port of the master that the Sentinels name."""
        return redis.Redis(port=self.sentinels[0].port).sentinel_get_master_addr_by_name("dpiqa")[1]

    def stop(self):
        """Stop all."""
        for server in (*self.sentinels, self.replica, self.master):
            server.stop()
