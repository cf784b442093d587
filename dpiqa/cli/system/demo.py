"""`dpiqa demo`: the whole system on this machine, told by the HTTP API."""

from pathlib import Path
from typing import Annotated

import typer

from dpiqa.cli.support.groups import command
from dpiqa.errors import ConfigurationError

Once = Annotated[bool, typer.Option("--once", help="Stop by itself; exit code 0 only if every image was scored.")]
Photos = Annotated[
    Path | None, typer.Option(help="Your own photographs instead of the demo's.", exists=True, file_okay=False)
]
Keep = Annotated[
    Path | None, typer.Option("--home", help="Keep database and logs in this folder; a temporary one by default.")
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "demo", "dpiqa demo", "dpiqa demo --once", "dpiqa demo --photos ~/Pictures")(demo)


def demo(once: Once = False, photos: Photos = None, home: Keep = None) -> None:
    """Start everything, upload photographs and spoiled copies, and show how they are scored. Ctrl-C ends it."""
    try:
        from dpiqa.local.demo import run
    except ImportError as error:
        raise ConfigurationError(
            f"the demo needs {error.name}, which is not installed", hint="pip install 'dpiqa[demo]'"
        ) from error
    raise typer.Exit(run(once=once, photos=photos, home=home))
