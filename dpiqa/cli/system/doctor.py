"""`dpiqa doctor`: what is wrong with an installation, and how to fix it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import typer

from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.cli.system import checks
from dpiqa.cli.system.checks import Finding, Level, fail, ok
from dpiqa.errors import ConfigurationError, DpiqaError
from dpiqa.exit_codes import ExitCode
from dpiqa.settings import Settings
from dpiqa.text import first_line

Check: TypeAlias = Callable[[Settings], Finding]
#: In the order in which things depend on each other.
CHECKS: dict[str, Check] = {
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
_STYLES = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}


@command("doctor", "dpiqa doctor", "dpiqa doctor --json")
def doctor(as_json: options.JsonOption = False) -> None:
    """Check settings, database, broker, S3, event queue, models, workers, device and disk.

    Exits with status 1 on a failure.
    """
    with console.stderr().status("checking"):
        findings = examine()
    if as_json:
        console.print_json(findings)
    else:
        rows = [
            (console.plain(finding.level, _STYLES[finding.level]), finding.name, finding.message, finding.hint)
            for finding in findings
        ]
        console.table(("", "part", "finding", "hint"), rows)
    if any(finding.level is Level.FAIL for finding in findings):
        raise typer.Exit(ExitCode.INCOMPLETE)


def examine() -> list[Finding]:
    """Return all findings, in the order of `CHECKS`. Never raises."""
    try:
        settings = context.read_settings()
    except ConfigurationError as error:
        return [fail("settings", error.message, error.hint)]

    def run(name: str) -> Finding:
        try:
            return CHECKS[name](settings)
        except DpiqaError as error:
            return fail(name, error.message, error.hint)
        except Exception as error:
            return fail(name, first_line(error), "this is unexpected; please report it")

    with ThreadPoolExecutor(len(CHECKS)) as threads:
        findings = threads.map(run, CHECKS)
        return [ok("settings", "all read; `dpiqa config show` lists them"), *findings]
