"""Authentication: the caller behind the key of a request.

Stored keys are looked up in Postgres and remembered for `REMEMBER_SECONDS`: a key that is revoked is refused by every
process after that time, and a page costs no more for being authenticated.
"""

import asyncio
import base64
import binascii
import hmac
import time
from collections import OrderedDict

from fastapi.concurrency import run_in_threadpool
from sqlalchemy import Engine
from starlette.datastructures import Headers

from dpiqa.access import Caller, digest_of, key_id_of
from dpiqa.errors import LimitExceeded
from dpiqa.settings import Settings
from dpiqa.storage.api_keys import ApiKey, find_key, read_live_key
from dpiqa.storage.engine import transaction
from dpiqa.types import KeyScope

from .limits import RequestRates, WrongKeys
from .security import Rules
from .sessions import Sessions

REMEMBER_SECONDS = 5.0  #: for which a stored key is trusted after it was looked up
MAX_REMEMBERED = 10_000
EVENTS_PATH = "/v1/events"


class WrongKey(Exception):
    """No key, where one is demanded, or a key that does not exist, expired or was revoked."""


class Authenticator:
    """Finds the caller of each request of one process."""

    def __init__(self, engine: Engine, settings: Settings, rules: Rules, sessions: Sessions) -> None:
        self._engine, self._settings, self._rules, self._sessions = engine, settings, rules, sessions
        self._remembered: OrderedDict[bytes, tuple[Caller, float]] = OrderedDict()
        self._wrong, self._rates = WrongKeys(), RequestRates()

    async def authenticate(self, path: str, headers: Headers, address: str) -> Caller:
        """Return the caller.

        Raises `WrongKey`, after a while where an address has sent many; `LimitExceeded`; `DatabaseUnavailable`.
        """
        text = key_of(path, headers)
        if text is not None:
            caller = await self.caller_of_key(text, address)
        elif not self._rules.requires_key:
            return Caller(name="local")
        else:
            caller = await self._caller_of_session(headers)
        if caller.key_id is not None and caller.requests_per_minute is not None:
            self._rates.take(caller.key_id, caller.requests_per_minute)
        return caller

    async def caller_of_key(self, text: str, address: str) -> Caller:
        """Return the caller with this key. Raises as `authenticate`."""
        caller = await self._caller_of(text, address)
        if caller is None:
            group, seconds = self._wrong.begin(address)
            try:
                await asyncio.sleep(seconds)
            finally:
                self._wrong.end(group)
            raise WrongKey
        return caller

    async def _caller_of_session(self, headers: Headers) -> Caller:
        """Return the caller whose key began the session that the request's cookie names. Raises `WrongKey`."""
        subject = self._sessions.subject_of(headers)
        if subject is None:
            raise WrongKey
        if self._sessions.is_bootstrap(subject):
            return Caller(name="bootstrap")
        remembered = subject.encode()  # no digest: those are 32 bytes, an id is 12
        known = self._remembered.get(remembered)
        if known is not None and known[1] > time.monotonic():
            return known[0]
        key = await run_in_threadpool(self._read, subject)
        if key is None:
            raise WrongKey
        caller = _caller(key, self._settings)
        self._remember(remembered, caller)
        return caller

    async def _caller_of(self, text: str, address: str) -> Caller | None:
        digest = digest_of(text)
        known = self._remembered.get(digest)
        if known is not None and known[1] > time.monotonic():
            return known[0]
        if self._wrong.are_too_many(address):
            raise LimitExceeded("this address sent many wrong keys", hint="send the right key later", retry_seconds=10)
        if self._rules.key_digest is not None and hmac.compare_digest(digest, self._rules.key_digest):
            caller = Caller(name="bootstrap")
        elif key_id_of(text) is None:
            return None
        else:
            key = await run_in_threadpool(self._find, text)
            if key is None:
                return None
            caller = _caller(key, self._settings)
        self._remember(digest, caller)
        return caller

    def _remember(self, digest: bytes, caller: Caller) -> None:
        self._remembered.pop(digest, None)
        self._remembered[digest] = (caller, time.monotonic() + REMEMBER_SECONDS)
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)

    def _read(self, key_id: str) -> ApiKey | None:
        with transaction(self._engine) as connection:
            return read_live_key(connection, key_id)

    def _find(self, text: str) -> ApiKey | None:
        with transaction(self._engine) as connection:
            return find_key(connection, text)


def _caller(key: ApiKey, settings: Settings) -> Caller:
    # What a sender of events may not send, it may drop: only a number of its own limits it.
    only_events = key.scopes == {KeyScope.EVENTS}
    return Caller(
        name=key.name,
        key_id=key.id,
        scopes=key.scopes,
        grants=key.grants,
        requests_per_minute=key.requests_per_minute or (None if only_events else settings.requests_per_minute),
        max_open_jobs=key.max_open_jobs or settings.max_open_jobs,
    )


def key_of(path: str, headers: Headers) -> str | None:
    """Return the key that a request carries; None: it carries none.

    `POST /v1/events` takes it as a password too: SNS and Ceph send what stands in the URL, `https://any:KEY@host/`.
    """
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    if scheme.lower() == "basic" and path == EVENTS_PATH:
        try:
            return base64.b64decode(token.strip(), validate=True).decode("utf-8", "replace").partition(":")[2]
        except (ValueError, binascii.Error):
            return ""
    return headers.get("x-api-key")  # beside another scheme, which is that of a proxy
