"""`dpiqa config`."""

from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.settings import masked


@command("show", "dpiqa config show", "dpiqa config show --json")
def show(as_json: options.JsonOption = False) -> None:
    """Show every setting as this machine sees it, secrets masked. docs/configuration.md explains each."""
    values = masked(context.read_settings())
    if as_json:
        console.print_json("settings@1", values)
    else:
        console.fields((f"DPIQA_{name.upper()}", value) for name, value in values.items())
