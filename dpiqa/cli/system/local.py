"""`dpiqa local`: the embedded stack on this machine; `dpiqa demo`: the whole system at work."""

from pathlib import Path
from typing import Annotated

import typer

from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.connection_file import connection_path
from dpiqa.exit_codes import ExitCode
from dpiqa.extras import required_for
from dpiqa.local import control
from dpiqa.local.control import Status
from dpiqa.local.demo import PROFILE
from dpiqa.local.demo import run as run_demo
from dpiqa.logs import configure_logging

ServersOnlyOption = Annotated[
    bool, typer.Option("--servers-only", help="Start Postgres, Valkey and S3/SQS only: no listener, workers, API.")
]
ForegroundOption = Annotated[
    bool, typer.Option("--foreground", help="Run in the foreground and stop everything at Ctrl-C.")
]
OnceOption = Annotated[bool, typer.Option("--once", help="Stop when done; exit code 0 only if every image was scored.")]
PhotosOption = Annotated[
    Path | None, typer.Option(help="Your own photographs instead of the demo's.", exists=True, file_okay=False)
]
HomeOption = Annotated[
    Path | None, typer.Option("--home", help="Keep database and logs in this folder; a temporary one by default.")
]
DemoProfileOption = Annotated[str, typer.Option("--profile", help="Models that score, by a profile's name.")]


@command("up", "dpiqa local up", "dpiqa local up --servers-only")
def up(
    servers_only: ServersOnlyOption = False, foreground: ForegroundOption = False, as_json: options.JsonOption = False
) -> None:
    """Start Postgres, Valkey, S3/SQS, listener, workers, API and Flower, and wait until they are ready.

    Other commands find them by themselves. A server that DPIQA_DATABASE_URL, DPIQA_BROKER_URL or AWS_ENDPOINT_URL_S3
    names elsewhere is not started.
    """
    settings = context.read_settings()
    if foreground:
        configure_logging(settings)
    is_running = control.status(settings.home).running
    console.note("it runs already" if is_running else "starting; the first time takes a minute")
    try:
        status = control.up(settings.home, everything=not servers_only, foreground=foreground)
    except KeyboardInterrupt:
        if not is_running:
            console.note("interrupted: what was started is stopped")
        raise
    if not foreground:
        _print_status(settings.home, status, as_json)
        if not as_json and not servers_only:
            bucket = status.connection.get("bucket")
            console.note("next:")
            if bucket:
                console.note(f"  dpiqa put photo.jpg s3://{bucket}/     # upload an image: it is scored")
            console.note("  dpiqa scores --worst 5%                # the scores; `dpiqa jobs` shows the work")
            console.note("  dpiqa local down                       # stop everything; the data stay")


@command("status", "dpiqa local status", "dpiqa local status --json")
def status(as_json: options.JsonOption = False) -> None:
    """Show what runs, and where. Exits with status 1 when nothing does or a part is not ready."""
    home = context.read_settings().home
    status = control.status(home)
    _print_status(home, status, as_json)
    if status.phase != "ready" or any(process["state"] != "ready" for process in status.processes):
        raise typer.Exit(ExitCode.INCOMPLETE)


@command("down", "dpiqa local down")
def down(as_json: options.JsonOption = False) -> None:
    """Stop everything that `dpiqa local up` started. The data stay."""
    was_running = control.down(context.read_settings().home)
    if as_json:
        console.print_json("stopped@1", {"stopped": was_running})
    else:
        console.note("stopped" if was_running else "nothing was running")


@command("demo", "dpiqa demo", "dpiqa demo --once", "dpiqa demo --photos ~/Pictures")
def demo(
    once: OnceOption = False,
    photos: PhotosOption = None,
    home: HomeOption = None,
    profile: DemoProfileOption = PROFILE,
) -> None:
    """Start everything, upload photographs and distorted copies, and show how they are scored. Ctrl-C ends it."""
    context.warn_of_unknown_variables()
    with required_for("dpiqa demo", extra="demo"):
        raise typer.Exit(run_demo(once=once, photos=photos, home=home, profile=profile))


def _print_status(home: Path, status: Status, as_json: bool) -> None:
    connection = status.connection
    if as_json:
        document = {"running": status.running, "phase": status.phase, "pid": status.pid, "processes": status.processes}
        names = ("api_url", "flower_url", "s3_endpoint_url", "bucket")
        console.print_json(
            "local-status@1", document | {name: connection[name] for name in names if connection.get(name)}
        )
        return
    if not status.running:
        console.note("nothing is running; start it with `dpiqa local up`")
        return
    columns = ("name", "state", "pid", "restarts", "url")
    console.table(columns, [[process.get(column) for column in columns] for process in status.processes])
    if "api_url" in connection:
        console.note(f"API and pages: {connection['api_url']}/ (its description: {connection['api_url']}/docs)")
    if "flower_url" in connection:
        console.note(f"Flower: {connection['flower_url']}, login: flower_basic_auth in the connection file")
    if connection.get("s3_endpoint_url"):
        bucket = f", bucket {connection['bucket']}" if "bucket" in connection else ""
        console.note(f"S3: {connection['s3_endpoint_url']}{bucket}")
    if connection:
        console.note(f"connection file, with all credentials and passwords: {connection_path(home)}")
