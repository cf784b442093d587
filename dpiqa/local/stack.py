"""Embedded stack: its servers and processes, and the settings that follow from them."""

import os
import secrets
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import structlog
from pydantic import SecretStr

from dpiqa.addresses import S3Address
from dpiqa.broker_url import BrokerKind
from dpiqa.connection_file import local_dir
from dpiqa.doorbell import load_doorbell
from dpiqa.errors import DpiqaError
from dpiqa.local import commands, s3
from dpiqa.local.commands import Launch
from dpiqa.local.ports import free_port
from dpiqa.local.postgres import Postgres
from dpiqa.local.process import Command, Process, Server, owns_port, spawn, talks_to
from dpiqa.local.supervisor import Supervisor, Unit
from dpiqa.local.valkey import Valkey
from dpiqa.profiles import load_profile
from dpiqa.settings import Settings, load_settings
from dpiqa.storage import schema
from dpiqa.storage.engine import open_engine, transaction
from dpiqa.storage.profiles import remember_profile
from dpiqa.storage.reconciliations import ReconciliationRequest, request_reconciliation
from dpiqa.storage.workers import live_workers
from dpiqa.types import Stage

log = structlog.get_logger()

BUCKET = "dpiqa-inbox"  #: the watched bucket of the embedded S3
_APP_SECONDS = 180  #: for an app to be ready; the first import of torch on a slow disk takes long
_STOP_SECONDS = 20


class Stack:
    """Stack of one home. A server is not started where the settings name another one."""

    def __init__(self, home: Path, **overrides: Any) -> None:
        """Plan the stack of a home; `overrides` are settings of its processes, e.g. `threads=1`."""
        self.home = home
        self.folder = local_dir(home)
        self.logs = self.folder / "logs"
        self.supervisor = Supervisor()
        self.values: dict[str, Any] = {}  #: content of the connection file
        self._overrides = overrides
        self._configured = load_settings(home=home, **overrides)
        self._close = ExitStack()

    @property
    def settings(self) -> Settings:
        """Settings of a process of this stack."""
        values = {name: value for name, value in self.values.items() if name in Settings.model_fields}
        # without metrics: one port cannot serve several processes
        return load_settings(**{**self._overrides, **values, "home": self.home, "metrics_port": None})

    def start_servers(self) -> None:
        """Start Postgres, Valkey and S3, migrate, make the bucket. Raises `ConfigurationError`."""
        # Started by root, Postgres runs as `nobody`, which needs traverse permission.
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o711)
        self.logs.mkdir(exist_ok=True, mode=0o700)
        self.values["folders"] = self._configured.folders
        self._start_postgres()
        self._start_valkey()
        self._start_s3()
        settings = self.settings
        schema.upgrade(settings.require_database_url(), schema=settings.database_schema)

    def start_apps(self) -> None:
        """Start listener, workers, API and Flower; return without waiting for them."""
        settings = self._start_api()
        if "bucket" in self.values and any(self.folder.glob(f"s3/{BUCKET}/*")):
            self._reconcile()
        if settings.queue_url:
            port = urlsplit(settings.sqs_endpoint_url or settings.queue_url).port or 443
            self._start_app("listener", commands.listen_command(settings), lambda process: talks_to(process.pid, port))
        for stage in Stage:
            launch = commands.worker_command(settings, stage)
            self._start_app(f"{stage.value}-worker", launch, self._worker_is_ready(stage))
        if settings.require_broker_url().kind is not BrokerKind.SQS:  # of which Flower cannot show anything
            self._start_flower(settings)

    def wait_ready(self, seconds: float = _APP_SECONDS) -> None:
        """Wait until every process is ready. Raises `ConfigurationError` when one ends or takes too long."""
        self.supervisor.wait_ready(self.supervisor.units, seconds)

    def stop(self) -> None:
        """Stop everything."""
        self._close.close()
        self.supervisor.stop()

    def _start_postgres(self) -> None:
        url = self._configured.database_url
        if url is not None:
            self.values["database_url"] = url.get_secret_value()
            return
        server = Postgres(self.folder / "postgres", self._log("postgres"))
        self._start_server(server)
        self.values["database_url"] = server.url()

    def _start_valkey(self) -> None:
        url = self._configured.broker_url
        if url is not None:
            load_doorbell(self._configured).check()
            self.values["broker_url"] = url.get_secret_value()
            return
        server = Valkey(self.folder / "valkey", self._log("valkey"))
        self._start_server(server)
        self.values["broker_url"] = server.url

    def _start_s3(self) -> None:
        if {"s3_endpoint_url", "sqs_endpoint_url"} & self._configured.model_fields_set:
            names = ("s3_endpoint_url", "sqs_endpoint_url", "aws_region", "queue_url")
            self.values |= {name: getattr(self._configured, name) or "" for name in names}
            return
        server = s3.S3(self._log("s3"), self.folder / "s3")

        def provision() -> None:
            watched = s3.provision(server.url, BUCKET)
            self.values |= {"queue_url": watched.queue_url, "bucket": watched.bucket}

        def restore() -> None:
            provision()
            self._reconcile()

        self._start_server(server, after_restart=restore)
        provision()
        self.values |= {
            "s3_endpoint_url": server.url,
            "sqs_endpoint_url": server.url,
            "aws_region": s3.REGION,
            "aws_access_key_id": s3.ACCESS_KEY_ID,
            "aws_secret_access_key": s3.SECRET_ACCESS_KEY,
        }

    def _reconcile(self) -> None:
        """Have a worker compare the bucket with the ledger: the queue's events ended with the last run of S3."""
        profile = load_profile(self.settings.profile, self.settings.profiles_dir)
        request = ReconciliationRequest(address=S3Address(BUCKET, ""), profile=profile.id)
        engine = open_engine(self.settings, "dpiqa-local", pool_size=1)
        try:
            with transaction(engine) as connection:
                remember_profile(connection, profile)
                request_reconciliation(connection, request)
        except DpiqaError as error:
            hint = f"run `dpiqa reconcile s3://{BUCKET}/`"
            log.warning("events_may_be_lost", bucket=BUCKET, error=str(error), hint=hint)
        finally:
            engine.dispose()

    def _start_server(self, server: Server, after_restart: Callable[[], None] | None = None) -> None:
        def launch() -> Process:
            server.start()
            if server.process is None:
                raise AssertionError("start() returns with a process or raises")
            return server.process

        unit = Unit(server.name, launch, lambda _process: True, after_restart=after_restart, server=True)
        self.supervisor.start(unit)
        unit.url = f"127.0.0.1:{server.port}"

    def _start_api(self) -> Settings:
        """Start the API; return the settings that include its address."""
        port = free_port(self.settings.api_port)
        url = f"http://127.0.0.1:{port}"
        self.values["api_url"] = url
        settings = self.settings.model_copy(update={"api_host": "127.0.0.1", "api_port": port})
        self._start_app("api", commands.api_command(settings), _answers(f"{url}/readyz", port), url=url)
        return settings

    def _start_flower(self, settings: Settings) -> None:
        port = free_port(settings.flower_port)
        login = settings.flower_basic_auth or SecretStr(f"dpiqa:{secrets.token_urlsafe(12)}")
        url = f"http://127.0.0.1:{port}"
        self.values |= {"flower_url": url, "flower_basic_auth": login.get_secret_value()}
        update = {"flower_host": "127.0.0.1", "flower_port": port, "flower_basic_auth": login}
        launch = commands.flower_command(settings.model_copy(update=update))
        self._start_app("flower", launch, _answers(f"{url}/healthcheck", port), url=url)

    def _start_app(self, name: str, launch: Launch, is_ready: Callable[[Process], bool], url: str = "") -> None:
        argv, env = launch
        command = Command(
            name=name,
            argv=argv,
            env=os.environ | env,
            log=self._log(name),
            cwd=self.folder,
            stop_seconds=_STOP_SECONDS,
        )
        self.supervisor.start(Unit(name, lambda: spawn(command), is_ready, url=url))

    def _worker_is_ready(self, stage: Stage) -> Callable[[Process], bool]:
        """Return a check for the worker's row in the database, which it writes after loading its model."""
        engine = open_engine(self.settings, "dpiqa-local", pool_size=1)
        self._close.callback(engine.dispose)

        def is_ready(process: Process) -> bool:
            with transaction(engine) as connection:
                workers = live_workers(connection)
            return any(worker.pid == process.pid and worker.stage == stage for worker in workers)

        return is_ready

    def _log(self, name: str) -> Path:
        path = self.logs / f"{name}.log"
        if path.exists():
            path.replace(path.with_suffix(".log.1"))
        return path


def _answers(url: str, port: int) -> Callable[[Process], bool]:
    """Return a check that the process itself listens on the port and answers 200."""

    def is_ready(process: Process) -> bool:
        if not owns_port(process.pid, port):
            return False
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    return is_ready
