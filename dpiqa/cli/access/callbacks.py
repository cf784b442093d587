"""`dpiqa callbacks` and its commands: secrets that sign callbacks, and a test of a receiver."""

import json
import sys
from datetime import UTC, datetime
from typing import Annotated
from uuid import uuid4

import typer

from dpiqa.callbacks.addresses import shown
from dpiqa.callbacks.delivery import deliver, new_secret
from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.errors import ConfigurationError, InvalidRequest
from dpiqa.exit_codes import ExitCode
from dpiqa.pipeline.callbacks import check_callback, rules_of, signer_of
from dpiqa.text import iso_utc

ClientArgument = Annotated[
    str | None, typer.Argument(help="Client: the name of its key. Without it: the operator's.", metavar="CLIENT")
]
NewOption = Annotated[bool, typer.Option("--new", help="Make a new one, for DPIQA_CALLBACK_SECRET.")]


@command("secret", "dpiqa callbacks secret --new", "dpiqa callbacks secret uploader")
def secret(client: ClientArgument = None, new: NewOption = False, as_json: options.JsonOption = False) -> None:
    """Print the secret with which a receiver verifies callbacks: of the jobs of one client, or of the operator.

    A client's secret is made of DPIQA_CALLBACK_SECRET and its name: it is stored nowhere, and another client's cannot
    be found from it. While DPIQA_CALLBACK_SECRET holds two, both are printed, and each callback is signed with both.
    """
    if new and client is not None:
        raise InvalidRequest("--new makes a secret of the operator", hint="a client's is made of it: leave --new out")
    if new:
        found = [new_secret()]
    else:
        signer = signer_of(context.read_settings())
        if signer is None:
            raise ConfigurationError(
                "there is no DPIQA_CALLBACK_SECRET", hint="`dpiqa callbacks secret --new` makes one: set it"
            )
        found = signer.secrets_of(client)
    if as_json:
        console.print_json("callback-secret@1", {"client": client, "secrets": found})
    else:
        sys.stdout.write("".join(f"{text}\n" for text in found))


@command(
    "test", "dpiqa callbacks test https://example.org/ended", "dpiqa callbacks test https://example.org/x uploader"
)
def send_test(
    url: Annotated[str, typer.Argument(help="URL of the receiver.", metavar="URL")],
    client: ClientArgument = None,
    as_json: options.JsonOption = False,
) -> None:
    """Send a signed message of the type `test` to a receiver, once, by the rules for callbacks.

    Exits with status 1 where it does not answer with 2xx. Nothing is stored, and nothing is sent again.
    """
    settings = context.read_settings()
    check_callback(settings, url)
    signer = signer_of(settings)
    now = datetime.now(UTC)
    body = json.dumps({"type": "test", "timestamp": iso_utc(now), "data": {}}, separators=(",", ":")).encode()
    assert signer is not None  # noqa: S101 - `check_callback` has found one
    headers = signer.headers(client, f"msg_{uuid4().hex}", int(now.timestamp()), body)
    attempt = deliver(url, headers, body, rules_of(settings))
    if as_json:
        console.print_json("callback-test@1", {"url": shown(url), "status": attempt.status, "error": attempt.error})
    elif attempt.error is None:
        console.note(f"{shown(url)} answered {attempt.status}")
    else:
        console.show_error(attempt.error, "docs/callbacks.md says what a receiver has to do")
    if attempt.error is not None:
        raise typer.Exit(ExitCode.INCOMPLETE)
