"""Entry point of the command line: `dpiqa`, and `python -m dpiqa.cli`.

Imports take up to a second. Ctrl-C ends the process at once meanwhile: a traceback from inside them would say nothing.
"""

import signal

from dpiqa.process_tuning import without_collections


def main() -> None:
    """Run the command line; does not return."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with without_collections():
        from dpiqa.cli.main import app  # noqa: PLC0415 - see above
        from dpiqa.cli.support.terminal import run  # noqa: PLC0415 - see above

    run(app)


if __name__ == "__main__":
    main()
