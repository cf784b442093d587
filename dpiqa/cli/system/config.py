"""`dpiqa config`."""

import typer

from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command, new_group


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = new_group("config", "Show the settings.", ["dpiqa config show"])
    group.callback()(_group)  # keeps `show` a subcommand although it is the only one
    command(group, "show", "dpiqa config show", "dpiqa config show --json")(show)
    app.add_typer(group)


def _group() -> None:
    pass


def show(as_json: options.Json = False) -> None:
    """Show every setting as this machine sees it, secrets masked. docs/configuration.md says what each means."""
    from dpiqa.settings import masked

    values = masked(context.settings())
    if as_json:
        console.print_json(values)
    else:
        console.fields((f"DPIQA_{name.upper()}", value) for name, value in values.items())
