"""Access: an API key off loopback, and on loopback only callers that are not web pages; the size of a body.

A service on loopback without a key is open to every program of the machine, the browser included. Web pages are
kept out by two checks: the `Host` must be a loopback name (a rebound DNS name is not), and a request that a browser
marks as coming from another site is refused unless its method is GET, HEAD or OPTIONS.

Starlette's `TrustedHostMiddleware` does not replace the first check: it answers in plain text, not with a problem, and
the second check needs the same list of names. FastAPI's `HTTPBearer` and `APIKeyHeader` do not replace the check of the
key: as dependencies of routes they run after the body was read, and unknown paths would answer without a key.
"""

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dpiqa.errors import ConfigurationError

from .errors import ProblemType, problem_response

MAX_BODY_BYTES = 1024 * 1024  #: the largest request body; an S3 event is under 64 KB
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
#: Paths that answer without a key: probes, and the description of the service, which holds nothing of its data.
OPEN_PATHS = frozenset({"/", "/healthz", "/readyz", "/openapi.json", "/docs"})
_OPEN_PREFIX = "/docs/"  #: assets of the documentation page
_METRICS = "/metrics"

_BAD_HOST = ProblemType(400, "bad_host")
_FOREIGN_ORIGIN = ProblemType(403, "foreign_origin")
_UNAUTHORIZED = ProblemType(401, "unauthorized")
_TOO_LARGE = ProblemType(413, "content_too_large")
_HEADERS = {_UNAUTHORIZED: {"WWW-Authenticate": "Bearer"}, _TOO_LARGE: {"Connection": "close"}}


def is_loopback(host: str) -> bool:
    """Return whether a server bound to `host` can be reached from this machine only."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Access:
    """The rules of one running service."""

    loopback: bool
    key_digest: bytes | None = field(repr=False)  #: SHA-256 of the API key; None: no key is required
    hosts: frozenset[str]  #: names a `Host` header may carry; empty: any

    @classmethod
    def of(cls, host: str, key: str | None, extra_hosts: Iterable[str] = ()) -> "Access":
        """Decide the rules for a server bound to `host`.

        Raises `ConfigurationError` when others could reach it and no key is set.
        """
        loopback = is_loopback(host)
        if not key and not loopback:
            raise ConfigurationError(
                f"the API would listen on {host}, which other machines can reach, without an API key",
                hint="set DPIQA_API_KEY, or bind it to 127.0.0.1",
            )
        hosts = LOOPBACK_HOSTS | {name.lower() for name in extra_hosts} if not key else frozenset()
        return cls(loopback, _digest(key) if key else None, frozenset(hosts))

    def admits_host(self, headers: Headers) -> bool:
        """Return whether the `Host` header names this service."""
        return not self.hosts or _hostname(f"//{headers.get('host', '')}") in self.hosts

    def admits_origin(self, headers: Headers) -> bool:
        """Return whether the request does not come from a web page of another site."""
        if not self.hosts:
            return True  # a page of another site does not have the key
        if headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
            return False
        origin = headers.get("origin")
        return origin is None or _hostname(origin) in self.hosts

    def admits_key(self, path: str, headers: Headers) -> bool:
        """Return whether the request carries the key, or its path needs none."""
        if self.key_digest is None or path in OPEN_PATHS or path.startswith(_OPEN_PREFIX):
            return True
        if path == _METRICS and self.loopback:
            return True
        scheme, _, token = headers.get("authorization", "").partition(" ")
        key = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        return hmac.compare_digest(_digest(key), self.key_digest)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _hostname(url: str) -> str | None:
    """Return the lower-case host of a URL, without port and brackets; None where there is none."""
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


class Guard:
    """Middleware that refuses a wrong host, a foreign web page, a missing key and a large body, in this order."""

    def __init__(
        self,
        app: ASGIApp,
        access: Access,
        max_body: int = MAX_BODY_BYTES,
        max_bodies: Mapping[str, int] | None = None,
    ) -> None:
        self.app, self.access, self.max_body = app, access, max_body
        self.max_bodies = max_bodies or {}  #: by path; other paths: `max_body`

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, or answer with a problem."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope, Headers(scope=scope))
        if refusal is None:
            await self.app(scope, self._counted(receive, self._max_body(scope["path"])), send)
            return
        problem_type, detail, hint = refusal
        headers = _HEADERS.get(problem_type)
        response = problem_response(problem_type, detail=detail, hint=hint, instance=scope["path"], headers=headers)
        await response(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[ProblemType, str, str] | None:
        if not self.access.admits_host(headers):
            return _BAD_HOST, "the Host header does not name this service", "call it as localhost or 127.0.0.1"
        if scope["method"] not in _SAFE_METHODS and not self.access.admits_origin(headers):
            return _FOREIGN_ORIGIN, "a web page of another site sent this request", "send it from a program"
        if not self.access.admits_key(scope["path"], headers):
            hint = "send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`"
            return _UNAUTHORIZED, "the API key is missing or wrong", hint
        length = headers.get("content-length", "0")
        max_body = self._max_body(scope["path"])
        if not length.isdecimal() or int(length) > max_body:
            return _TOO_LARGE, _limit(max_body), "send less in one request"
        return None

    def _max_body(self, path: str) -> int:
        return self.max_bodies.get(path, self.max_body)

    @staticmethod
    def _counted(receive: Receive, max_body: int) -> Receive:
        """Count a body that comes without a length; the framework answers the exception with a problem."""
        n_bytes = 0

        async def counting() -> Message:
            nonlocal n_bytes
            message = await receive()
            n_bytes += len(message.get("body", b""))
            if n_bytes > max_body:
                raise HTTPException(413, _limit(max_body))
            return message

        return counting


def _limit(max_body: int) -> str:
    return f"the body is larger than {max_body} bytes"
