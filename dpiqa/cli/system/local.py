"""`dpiqa local`: the embedded stack."""

from typing import TYPE_CHECKING, Annotated

import typer

from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command, new_group
from dpiqa.exit_codes import ExitCode

if TYPE_CHECKING:
    from dpiqa.local.control import Status

ServersOnly = Annotated[
    bool, typer.Option("--servers-only", help="Start Postgres, Valkey and S3/SQS only: no listener, workers, API.")
]
Foreground = Annotated[bool, typer.Option("--foreground", help="Stay here and stop everything at Ctrl-C.")]


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = new_group(
        "local",
        "The whole system on this machine's loopback: for demos, laptops, development and tests.",
        ["dpiqa local up"],
    )
    command(group, "up", "dpiqa local up", "dpiqa local up --servers-only")(up)
    command(group, "status", "dpiqa local status", "dpiqa local status --json")(status)
    command(group, "down", "dpiqa local down")(down)
    app.add_typer(group)


def up(servers_only: ServersOnly = False, foreground: Foreground = False, as_json: options.Json = False) -> None:
    """Start Postgres, Valkey, S3/SQS, listener, workers, API and Flower, and wait until they are ready.

    Other commands find them by themselves. What DPIQA_DATABASE_URL, DPIQA_BROKER_URL or AWS_ENDPOINT_URL_S3 point
    elsewhere is not started.
    """
    from dpiqa.local import control
    from dpiqa.logs import configure_logging

    settings = context.settings()
    if foreground:
        configure_logging(settings)
    console.note("starting; the first time takes a minute" if not control.status(settings.home).running else "it runs")
    found = control.up(settings.home, everything=not servers_only, foreground=foreground)
    if not foreground:
        _show(found, as_json)


def status(as_json: options.Json = False) -> None:
    """Show what runs, and where. Ends with 1 when nothing does or a part is not ready."""
    from dpiqa.local import control

    found = control.status(context.settings().home)
    _show(found, as_json)
    if found.phase != "ready" or any(one["state"] != "ready" for one in found.processes):
        raise typer.Exit(ExitCode.INCOMPLETE)


def down(as_json: options.Json = False) -> None:
    """Stop everything that `dpiqa local up` started. The data stay."""
    from dpiqa.local import control

    stopped = control.down(context.settings().home)
    if as_json:
        console.print_json({"stopped": stopped})
    else:
        console.note("stopped" if stopped else "nothing was running")


def _show(found: "Status", as_json: bool) -> None:
    places = {name: found.connection[name] for name in ("api_url", "flower_url", "bucket") if name in found.connection}
    if as_json:
        document = {"running": found.running, "phase": found.phase, "pid": found.pid, "processes": found.processes}
        console.print_json(document | places)
        return
    if not found.running:
        console.note("nothing is running; start it with `dpiqa local up`")
        return
    columns = ("name", "state", "pid", "restarts", "url")
    console.table(columns, [[one.get(column) for column in columns] for one in found.processes])
    for name, value in places.items():
        console.note(f"{name.replace('_', ' ')}: {value}")
