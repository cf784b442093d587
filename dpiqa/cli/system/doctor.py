"""`dpiqa doctor`: what is wrong, and how to mend it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeAlias

import typer

from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.cli.system.findings import Finding, Level, fail, ok
from dpiqa.errors import ConfigurationError, DpiqaError
from dpiqa.exit_codes import ExitCode

if TYPE_CHECKING:
    from dpiqa.settings import Settings

Check: TypeAlias = "Callable[[Settings], Finding]"
_STYLES = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "doctor", "dpiqa doctor", "dpiqa doctor --json")(doctor)


def doctor(as_json: options.Json = False) -> None:
    """Check settings, database, broker, S3, event queue, models, workers, device and disk. Ends with 1 on a failure."""
    with console.stderr().status("checking"):
        found = examine()
    if as_json:
        console.print_json(found)
    else:
        rows = [(console.plain(one.level, _STYLES[one.level]), one.name, one.message, one.hint) for one in found]
        console.table(("", "part", "finding", "hint"), rows)
    if any(one.level is Level.FAIL for one in found):
        raise typer.Exit(ExitCode.INCOMPLETE)


def examine() -> list[Finding]:
    """All findings, in the order in which things depend on each other. Never raises."""
    try:
        settings = context.settings()
    except ConfigurationError as error:
        return [fail("settings", error.message, error.hint)]
    checks = _checks()
    with ThreadPoolExecutor(len(checks)) as threads:
        found = threads.map(lambda name: _run(name, checks[name], settings), checks)
        return [ok("settings", "all read; `dpiqa config show` lists them"), *found]


def _checks() -> dict[str, Check]:
    from dpiqa.cli.system import checks

    return {
        "database": checks.database,
        "tables": checks.tables,
        "requirements": checks.requirements,
        "broker": checks.broker,
        "S3": checks.s3,
        "event queue": checks.events,
        "workers": checks.workers,
        "models": checks.models,
        "device": checks.device,
        "disk": checks.disk,
    }


def _run(name: str, check: Check, settings: "Settings") -> Finding:
    try:
        return check(settings)
    except DpiqaError as error:
        return fail(name, error.message, error.hint)
    except Exception as error:
        line = (str(error).splitlines() or [""])[0]
        return fail(name, f"{type(error).__name__}: {line}", "this is unexpected; please report it")
