"""`python -m dpiqa.local HOME [--servers-only]`: the supervisor that `dpiqa local up` leaves running."""

import sys
from pathlib import Path

from dpiqa.errors import DpiqaError
from dpiqa.local.control import supervise
from dpiqa.logs import configure_logging
from dpiqa.settings import load_settings


def main(arguments: list[str]) -> int:
    """Run until stopped; the last line of the log gives the reason if it cannot start."""
    home = Path(arguments[0])
    try:
        configure_logging(load_settings(home=home))
        supervise(home, everything="--servers-only" not in arguments[1:])
    except DpiqaError as error:
        print(error, file=sys.stderr)  # noqa: T201 - read by `up` and by people
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
