"""Delivery of one webhook: signed as Standard Webhooks says, sent to the address that was checked, bounded in time."""

import base64
import binascii
import hashlib
import hmac
import http.client
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from dpiqa.callbacks.addresses import CallbackRules, Target
from dpiqa.errors import ConfigurationError, Forbidden, InvalidRequest, Unavailable

CONNECT_SECONDS = 5.0
TOTAL_SECONDS = 20.0  #: of one attempt, however slowly the receiver sends
MAX_RESPONSE_BYTES = 64 * 1024  #: read of an answer, and thrown away
_PREFIX = "whsec_"
_MIN_SECRET_BYTES = 24
_GONE = 410  #: the receiver wants no more of this


def new_secret() -> str:
    """Return a new secret: `whsec_` and 32 random bytes."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def secret_bytes(text: str) -> bytes:
    """Return the bytes of a secret. Raises `ConfigurationError` without repeating it."""
    hint = "`dpiqa callbacks secret --new` makes one"
    try:
        value = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except (ValueError, binascii.Error):
        value = b""
    if not text.startswith(_PREFIX) or not _MIN_SECRET_BYTES <= len(value) <= 64:
        raise ConfigurationError("a secret of DPIQA_CALLBACK_SECRET is not whsec_ and 24 to 64 bytes", hint=hint)
    return value


class Signer:
    """Signs with one secret, or with the old and the new one while receivers change over.

    Jobs of a stored key are signed with a secret of that client alone, derived from ours: a client cannot sign for
    another one. Jobs of the operator are signed with ours.
    """

    def __init__(self, setting: str) -> None:
        """Read the secrets of a setting, separated by spaces. Raises `ConfigurationError`."""
        self._secrets = [secret_bytes(text) for text in setting.split()]
        if not self._secrets:
            raise ConfigurationError("callbacks need DPIQA_CALLBACK_SECRET", hint="`dpiqa callbacks secret --new`")

    def secrets_of(self, client: str | None) -> list[str]:
        """Return the secrets that a receiver verifies with, the newest first."""
        return [_PREFIX + base64.b64encode(key).decode() for key in self._keys(client)]

    def headers(self, client: str | None, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
        """Return the headers of a message."""
        signed = f"{message_id}.{timestamp}.".encode() + body
        signatures = [
            "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in self._keys(client)
        ]
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": " ".join(signatures),
        }

    def _keys(self, client: str | None) -> list[bytes]:
        if client is None:
            return self._secrets
        return [hmac.digest(key, f"dpiqa callback of {client}".encode(), hashlib.sha256) for key in self._secrets]


@dataclass(frozen=True, slots=True)
class Attempt:
    """The outcome of one attempt."""

    status: int | None  #: HTTP status; None: there was no answer
    error: str | None  #: in a few words; None: it was delivered
    is_final: bool  #: another attempt would not help, or is not needed
    retry_after: float | None = None  #: seconds that the receiver asked for


def deliver(url: str, headers: dict[str, str], body: bytes, rules: CallbackRules) -> Attempt:
    """Send a message once. Never raises for the receiver's faults; follows no redirect."""
    try:
        target = rules.parse(url)
        addresses = rules.resolve(target)
    except (InvalidRequest, Forbidden) as error:
        return Attempt(None, f"refused: {error.message}", is_final=True)
    except Unavailable as error:
        return Attempt(None, error.message, is_final=False)
    started = time.monotonic()
    attempt = Attempt(None, "no address answered", is_final=False)
    for address in addresses[:4]:
        left = TOTAL_SECONDS - (time.monotonic() - started)
        if left <= 0:
            break
        try:
            return _post(target, address, headers, body, left)
        except (OSError, http.client.HTTPException) as error:
            attempt = Attempt(None, _words(error), is_final=False)
    return attempt


def _post(target: Target, address: str, headers: dict[str, str], body: bytes, seconds: float) -> Attempt:
    """Send to one address. Raises `OSError`, `HTTPException`."""
    connection = _connection(target, address)
    is_cut = threading.Event()
    timer = threading.Timer(seconds, _cut, [connection, is_cut])
    timer.daemon = True
    timer.start()
    try:
        connection.connect()
        if is_cut.is_set():  # before there was a connection that could be cut
            raise TimeoutError
        connection.sock.settimeout(seconds)  # from now on only the timer ends it
        connection.putrequest("POST", target.path, skip_host=True, skip_accept_encoding=True)
        fixed = {"Host": target.authority, "Content-Type": "application/json", "User-Agent": "dpiqa-callback/1"}
        for name, value in {**fixed, "Content-Length": str(len(body)), **headers}.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        with connection.getresponse() as response:
            response.read(MAX_RESPONSE_BYTES)
            status, retry_after = response.status, response.headers.get("Retry-After", "")
        if is_cut.is_set():  # the connection was cut: what was read may be part of an answer
            raise TimeoutError
    finally:
        timer.cancel()
        connection.close()
    if 200 <= status < 300:
        return Attempt(status, None, is_final=True)
    seconds_asked = float(retry_after) if retry_after.isascii() and retry_after.isdecimal() else None
    error = f"HTTP {status}" + (", which is not followed" if 300 <= status < 400 else "")
    return Attempt(status, error, is_final=status == _GONE, retry_after=seconds_asked)


class _ToAddress(http.client.HTTPConnection):
    """A connection to a checked address instead of to what the name resolves to now."""

    address: str

    def connect(self) -> None:
        """Connect to the address."""
        self.sock = socket.create_connection((self.address, self.port), self.timeout)


class _ToAddressByTLS(_ToAddress):
    """The same by TLS: the certificate must be that of the name."""

    context: ssl.SSLContext

    def connect(self) -> None:
        """Connect to the address, and verify the name."""
        super().connect()
        self.sock = self.context.wrap_socket(self.sock, server_hostname=self.host)


def _connection(target: Target, address: str) -> _ToAddress:
    if target.scheme == "http":
        connection = _ToAddress(target.host, target.port, timeout=CONNECT_SECONDS)
    else:
        connection = _ToAddressByTLS(target.host, target.port, timeout=CONNECT_SECONDS)
        connection.context = ssl.create_default_context()
    connection.address = address
    return connection


def _cut(connection: http.client.HTTPConnection, is_cut: threading.Event) -> None:
    """End a connection from another thread: what waits in it raises, or reads an end."""
    is_cut.set()  # before the end of the answer can be read
    sock = connection.sock
    if sock is not None:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def _words(error: BaseException) -> str:
    """Return what went wrong, without what the receiver sent."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "the connection was refused"
    if isinstance(error, http.client.HTTPException):
        return "the answer is not HTTP, or was cut off"
    return f"the connection failed ({type(error).__name__})"


def backoff(attempts: int, delays: Sequence[float]) -> float | None:
    """Return the seconds before the next attempt after so many; None: there is none. A tenth of it is random."""
    if attempts > len(delays):
        return None
    return delays[attempts - 1] * (0.95 + secrets.randbelow(1000) / 10_000)
