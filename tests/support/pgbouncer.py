"""PgBouncer in transaction mode in front of a test's Postgres, where the machine has it (Debian: `pgbouncer`)."""

import os
import shutil
import subprocess
import time
from contextlib import ExitStack

import psycopg
from sqlalchemy.engine import make_url

from dpiqa.local.process import free_port

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


class PgBouncer:
    """A pooler of a few sessions, as it comes: no start-up parameter is ignored. `folder`: open to other users."""

    def __init__(self, folder, database_url, *, sessions=3):
        self._target, self._sessions = make_url(database_url), sessions
        self.port = free_port(0)
        self.folder = folder
        (folder / "users").write_text(f'"{self._target.username}" "{self._target.password}"\n')
        (folder / "ini").write_text(
            f"[databases]\n* = host={self._target.host} port={self._target.port}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = plain\nauth_file = {folder}/users\npool_mode = transaction\ndefault_pool_size = {sessions}\n"
        )
        for path in (folder, folder / "users", folder / "ini"):
            path.chmod(0o755)
        user = {"user": "nobody", "extra_groups": []} if os.geteuid() == 0 else {}  # it refuses to run as root
        self._process = subprocess.Popen(
            [PROGRAM, "-q", str(folder / "ini")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **user
        )
        self._wait()

    @property
    def url(self):
        """URL of the database, through the pooler."""
        return self._target.set(port=self.port).render_as_string(hide_password=False)

    def settings(self):
        """Return what another client of the pooler finds in all of its sessions: time-outs and search path."""
        names = "statement_timeout lock_timeout idle_in_transaction_session_timeout search_path"
        query = "SELECT " + ", ".join(f"current_setting('{name}')" for name in names.split())
        with ExitStack() as stack:  # one transaction in each session
            clients = [stack.enter_context(self._connect()) for _ in range(self._sessions)]
            for client in clients:
                client.execute("BEGIN")
            return {client.execute(query).fetchone() for client in clients}

    def stop(self):
        """End it."""
        self._process.kill()
        self._process.wait()

    def _connect(self):
        plain = make_url(self.url).set(drivername="postgresql").render_as_string(hide_password=False)
        return psycopg.connect(plain, autocommit=True, prepare_threshold=None, connect_timeout=5)

    def _wait(self):
        deadline = time.monotonic() + 20
        while True:
            try:
                self._connect().close()
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise
                time.sleep(0.05)
