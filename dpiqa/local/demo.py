"""Demo: the whole system on this machine scores photographs. `dpiqa demo`, `python -m dpiqa.local.demo`.

The main thread starts and supervises the processes; a second thread distorts and uploads photographs meanwhile.
"""

import argparse
import contextlib
import os
import shlex
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.live import Live

from dpiqa.errors import ConfigurationError, DpiqaError, Unavailable
from dpiqa.files import expanded
from dpiqa.local import demo_view as view
from dpiqa.local.control import RunningStack, opened
from dpiqa.local.demo_photos import UploadPlan, plan
from dpiqa.local.process import failure
from dpiqa.local.s3 import ACCESS_KEY_ID, SECRET_ACCESS_KEY, make_client, queue_is_empty
from dpiqa.local.supervisor import UnitState
from dpiqa.logs import configure_logging
from dpiqa.profiles import load_profile
from dpiqa.settings import load_settings
from dpiqa.signals import ignored
from dpiqa.types import TERMINAL_STATES, ItemState

_POLL_SECONDS = 0.25
_LINE_SECONDS = 3.0  #: between two lines of progress where there is no terminal
PROFILE = "with-teacher"  #: the demo shows both queues
_STALL_SECONDS = 300  #: without any progress
_CRASHES = 3  #: of one process in a row, before the demo gives up
_PLAIN_WIDTH = 110
_PAGE = 1000  #: rows of one page of the API


class Client:
    """The API of the running stack."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.Client(base_url=url, timeout=30, trust_env=False)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def watch(self, bucket: str) -> str:
        """Create a standing watch on a bucket; returns its job's id."""
        return str(self._request("POST", "/v1/jobs", json={"kind": "watch", "bucket": bucket})["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        """Return the progress of a job."""
        return dict(self._request("GET", f"/v1/jobs/{job_id}"))

    def scores(self, bucket: str) -> list[dict[str, Any]]:
        """Return every score of a bucket, worst first."""
        return self._pages("/v1/scores", {"bucket": bucket, "sort": "score"})

    def unscored(self, job_id: str, states: list[str]) -> list[dict[str, Any]]:
        """Return the job's items in these states."""
        return [item for state in states for item in self._pages(f"/v1/jobs/{job_id}/items", {"state": state})]

    def _pages(self, path: str, query: dict[str, Any]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        cursor: dict[str, str] = {}
        while True:
            page = self._request("GET", path, params={**query, **cursor, "limit": _PAGE})
            rows += page["items"]
            if not page["next_cursor"]:
                return rows
            cursor = {"cursor": page["next_cursor"]}

    def _request(self, method: str, path: str, **arguments: Any) -> Any:
        try:
            response = self._http.request(method, path, **arguments)
        except httpx.HTTPError as error:
            raise Unavailable(f"the API does not answer {method} {path}: {error}") from None
        if response.is_success:
            return response.json()
        message = f"the API answers {response.status_code} to {method} {path}"
        if response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            raise Unavailable(message)
        raise ConfigurationError(f"{message}: {response.text[:200]}", hint="see api.log of the stack")


class Uploader(threading.Thread):
    """Thread that distorts and uploads the photographs."""

    def __init__(self, photographs: UploadPlan, endpoint: str, bucket: str) -> None:
        super().__init__(name="uploader", daemon=True)
        self._plan, self._bucket = photographs, bucket
        self._s3 = make_client("s3", endpoint)
        self.sent = 0
        self.total = photographs.total
        self.error: Exception | None = None

    def run(self) -> None:
        """Upload everything, or keep the error for the main thread."""
        try:
            for upload in self._plan.uploads():
                self._s3.put_object(Bucket=self._bucket, Key=upload.key, Body=upload.data)
                self.sent += 1
            self.total = self.sent  # a file that is not an image has no copies
        except Exception as error:
            self.error = error


class Demo:
    """One run of the demo."""

    def __init__(self, running: RunningStack, photographs: UploadPlan, console: Console) -> None:
        self.running, self.console, self.photographs = running, console, photographs
        self.supervisor = running.stack.supervisor
        self.started = time.monotonic()
        self.job: dict[str, Any] | None = None
        self._client: Client | None = None
        self._uploader: Uploader | None = None

    @property
    def client(self) -> Client:
        """The API, once it is ready."""
        if self._client is None:
            self._client = Client(self.running.stack.values["api_url"])
        return self._client

    def start(self) -> None:
        """Start the processes without waiting for all of them."""
        self.console.print("starting Postgres, Valkey and S3 + SQS on loopback")
        self.running.stack.start_servers()
        if "bucket" not in self.running.stack.values:
            hint = "unset AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL_SQS and their DPIQA_ names for the demo"
            raise ConfigurationError("the demo uploads to its own S3 only, and the settings name another", hint=hint)
        self.console.print("starting listener, student worker, teacher worker, API and Flower")
        self.running.stack.start_apps()

    def follow(self) -> None:
        """Upload, and show progress until every image has ended. Raises `ConfigurationError` when progress stops."""
        last_change, last = time.monotonic(), (-1, 0, 0)
        with _display(self.console) as show:
            while not self._all_ended():
                self._check_processes()
                sent = self._uploader.sent if self._uploader else 0
                total = self._uploader.total if self._uploader else self.photographs.total
                show(self.supervisor.units, sent, total, self.job)
                ready = sum(unit.state is UnitState.READY for unit in self.supervisor.units)
                current = ready, sent, self.job["done"] if self.job else 0
                if current != last:
                    last_change, last = time.monotonic(), current
                if time.monotonic() - last_change > _STALL_SECONDS:
                    raise ConfigurationError(f"no progress for {_STALL_SECONDS} s", hint=f"see {self._logs}")
                time.sleep(_POLL_SECONDS)

    def announce(self) -> None:
        """Wait for the processes that are not ready yet, and write the connection file."""
        self.supervisor.wait_ready(self.supervisor.units, 120)
        self.running.announce()

    def report(self) -> bool:
        """Print the results; returns True if every image was scored."""
        rows = self.client.scores(self.running.stack.values["bucket"])
        job = self.job = self.client.job(self.job_id)
        profile = load_profile(job["profile"], self.running.stack.settings.profiles_dir)
        unscored_states = [state.value for state in sorted(TERMINAL_STATES - {ItemState.SCORED})]
        failed = self.client.unscored(self.job_id, unscored_states) if job["done"] > len(rows) else []
        tables = [*view.extremes(rows), view.escalated(rows, profile), view.by_strength(rows)]
        for table in [*tables, view.unscored(failed) if failed else None]:
            if table is not None:
                self.console.print(table)
        complete = job["counts"].get(ItemState.SCORED, 0) == job["done"] == job["total"] and not failed
        elapsed = time.monotonic() - self.started
        self.console.print(
            f"[bold]{len(rows)} images scored[/], {len(rows) / elapsed:.1f} a second over the {elapsed:.1f} s since "
            f"the start, processes included; {view.pace(job) or 'not enough data'} while scoring. "
            f"Routes: {view.routes(rows)}. A score is MOS/100: higher is better."
        )
        return complete and bool(rows)

    def print_urls(self) -> None:
        """Print the addresses of what stays up, and how to use it."""
        values = self.running.stack.values
        self.console.print(
            f"\nPages   {values['api_url']}/\n"
            f"API     {values['api_url']}/docs\n"
            f"        {values['api_url']}/v1/scores?bucket={values['bucket']}&worst=5%25\n"
            f"Flower  {values['flower_url']}  (login {values['flower_basic_auth'].replace(':', ' / ')})\n"
            f"S3      {values['s3_endpoint_url']}  bucket {values['bucket']}: images put there are scored\n"
            f"        access key {ACCESS_KEY_ID}, secret key {SECRET_ACCESS_KEY}\n"
            f"CLI     export DPIQA_HOME={shlex.quote(str(self.running.stack.home))}\n"
            f"        dpiqa put photo.jpg s3://{values['bucket']}/\n"
            f"        dpiqa scores --worst 5%\n",
            highlight=False,
            soft_wrap=True,
        )

    @property
    def _logs(self) -> Path:
        return self.running.stack.logs

    def _start_upload(self) -> None:
        """Watch the bucket, then upload to it."""
        values = self.running.stack.values
        self.job_id = self.client.watch(values["bucket"])
        self._uploader = Uploader(self.photographs, values["s3_endpoint_url"], values["bucket"])
        self._uploader.start()

    def _all_ended(self) -> bool:
        """Return whether every event is an item and every item has ended; a kept home has items of earlier runs."""
        job, uploader, values = self.job, self._uploader, self.running.stack.values
        if job is None or uploader is None or uploader.is_alive() or uploader.error is not None:
            return False
        caught_up: bool = job["done"] == job["total"] >= uploader.sent
        return caught_up and queue_is_empty(values["sqs_endpoint_url"], values["queue_url"])

    def _check_processes(self) -> None:
        """Check the processes once, and read the job's progress from the API."""
        self.running.tick()
        for unit in self.supervisor.units:
            if unit.state is UnitState.CRASHED and unit.process:
                if unit.process.popen.returncode == os.EX_CONFIG:  # trying again would not help
                    raise failure(unit.process, "refuses to start")
                if unit.crashes_in_a_row >= _CRASHES:
                    raise failure(unit.process, "keeps ending")
        if self._uploader is None:
            if any(unit.name == "api" and unit.state is UnitState.READY for unit in self.supervisor.units):
                self._start_upload()
            return
        if self._uploader.error is not None:
            raise ConfigurationError(f"the upload failed: {self._uploader.error}", hint=f"see {self._logs}")
        with contextlib.suppress(Unavailable):  # it may be restarting; the last progress stays
            self.job = self.client.job(self.job_id)


def run(*, once: bool = False, photos: Path | None = None, home: Path | None = None, profile: str = PROFILE) -> int:
    """Run the demo in the main thread; return the exit code: 0 only if every image was scored.

    `photos`: a folder instead of the photographs in the wheels. `home`: a folder that keeps everything; by default a
    temporary one. `profile`: by which the photographs are scored. Unless `once`, everything stays up until Ctrl-C.
    Raises `DpiqaError`.
    """
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
    photographs = plan(photos)
    configure_logging(load_settings(log_level="warning"))  # the display shows what the log lines would
    half = max(1, (os.cpu_count() or 1) // 2)  # student and teacher work at the same time
    try:
        options = {"threads": half, "decode_processes": min(4, half), "profile": profile}
        with _home(home) as folder, opened(folder, **options) as running:
            demo = Demo(running, photographs, console)
            demo.start()
            demo.follow()
            code = 0 if demo.report() else 1
            demo.client.close()
            if not once:
                demo.announce()
                demo.print_urls()
                _stay(running, console)
            console.print("stopping")
    except KeyboardInterrupt:
        return 130
    return code


def _stay(running: RunningStack, console: Console) -> None:
    console.print("Everything stays up until Ctrl-C.")
    try:
        while True:
            running.tick()
            time.sleep(_POLL_SECONDS)
    except KeyboardInterrupt:
        return


@contextmanager
def _home(path: Path | None) -> Iterator[Path]:
    if path is not None:
        yield expanded(path).absolute()
        return
    folder = Path(tempfile.mkdtemp(prefix="dpiqa-demo-"))
    folder.chmod(0o711)  # started by root, Postgres runs as `nobody`, which needs traverse permission
    try:
        yield folder
    finally:
        with ignored(signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # however often Ctrl-C is pressed
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _display(console: Console) -> Iterator[Any]:
    """Yield a function that shows progress: a live display on a terminal, else a line now and then."""
    if console.is_terminal:
        with Live(console=console, refresh_per_second=8, transient=True) as live:
            yield lambda *progress: live.update(view.progress(*progress))
        return
    last_shown = 0.0

    def show(*progress: Any) -> None:
        nonlocal last_shown
        if time.monotonic() - last_shown >= _LINE_SECONDS:
            last_shown = time.monotonic()
            console.print(view.line(*progress), soft_wrap=True, markup=False)

    yield show


def main() -> int:
    """Entry point of `python -m dpiqa.local.demo`."""
    parser = argparse.ArgumentParser(
        prog="demo", description="The whole system on this machine: photographs in, scores out."
    )
    parser.add_argument("--once", action="store_true", help="stop when done; exit code 0 only if all was scored")
    parser.add_argument("--photos", type=Path, metavar="DIR", help="photographs of your own instead of the demo's")
    parser.add_argument("--home", type=Path, metavar="DIR", help="keep database and logs there")
    parser.add_argument("--profile", default=PROFILE, metavar="NAME", help="models that score (default: %(default)s)")
    arguments = parser.parse_args()
    try:
        code = run(**vars(arguments))
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is stopped; while Python ends, Ctrl-C would change the code
        return code
    except DpiqaError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - for people
        return 1


if __name__ == "__main__":
    sys.exit(main())
