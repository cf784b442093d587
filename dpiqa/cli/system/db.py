"""`dpiqa db`."""

from typing import Annotated

import typer

from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.exit_codes import ExitCode
from dpiqa.settings import Settings
from dpiqa.storage import schema, schema_state
from dpiqa.storage.rollups import count_results, reset_rollups


@command("upgrade", "dpiqa db upgrade")
def upgrade(as_json: options.JsonOption = False) -> None:
    """Create the tables, or bring them to this version. Idempotent; processes that start together take turns."""
    settings = context.read_settings()
    before = _revision(settings)
    schema.upgrade(settings.require_database_url(), schema=settings.database_schema)
    after = _revision(settings)
    if as_json:
        console.print_json("migration@1", {"before": before, "now": after})
    else:
        console.note(
            f"the tables are at {after}" + (", as before" if before == after else f" (were: {before or 'none'})")
        )


@command("current", "dpiqa db current", "dpiqa db current --json")
def current(as_json: options.JsonOption = False) -> None:
    """Show which version the tables have, and which this program needs. Exits with status 1 when they differ."""
    with context.database() as engine:
        state = schema_state.state(engine)
    if as_json:
        console.print_json("schema-version@1", {"current": state.current, "needed": state.needed})
    else:
        console.fields([("current", state.current or "none"), ("needed", state.needed)])
    if state.is_newer:
        console.warn("the tables are those of a later version: upgrade this program, too")
    elif not state.is_current:
        console.warn("the tables are not those of this version: run `dpiqa db upgrade`")
    if not state.is_current:
        raise typer.Exit(ExitCode.INCOMPLETE)


@command("rollups", "dpiqa db rollups", "dpiqa db rollups --rebuild")
def rollups(
    *,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Forget all counts first, and count every result.")
    ] = False,
    as_json: options.JsonOption = False,
) -> None:
    """Count the results of before an upgrade in the roll-ups now, instead of letting the workers do it.

    Resumable. Workers go on; each batch makes them wait for some tenths of a second.
    """
    with context.database() as engine:
        if rebuild:
            reset_rollups(engine)
        n_batches = 0
        while count_results(engine):
            n_batches += 1
    if as_json:
        console.print_json("rollups@1", {"batches": n_batches})
    else:
        console.note(f"every result is counted ({n_batches} batches)")


@command("revision", 'dpiqa db revision "A column for the camera"')
def revision(
    message: Annotated[str, typer.Argument(help="The change, in a few words.")], as_json: options.JsonOption = False
) -> None:
    """Write the next migration (for developers): what differs between the program's tables and this database.

    The database must be at the newest revision. Read the file and correct it by hand.
    """
    settings = context.read_settings()
    file = schema.new_revision(settings.require_database_url(), message, schema=settings.database_schema)
    if as_json:
        console.print_json("file@1", {"file": str(file)})
    else:
        console.note(f"wrote {file}")


def _revision(settings: Settings) -> str | None:
    with context.database(settings) as engine:
        return schema_state.current(engine)
