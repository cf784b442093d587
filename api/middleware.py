"""What every request passes before a route sees it: access log and metrics, host, origin, key, body size."""

import time

import structlog
from starlette.datastructures import Headers, QueryParams
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dpiqa.text import shorten

from .errors import MAX_TEXT, Kind, response
from .metrics import Metrics
from .security import Access

log = structlog.get_logger()

MAX_BODY_BYTES = 1024 * 1024  #: the largest request body; an S3 event is under 64 KB
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
#: Query parameters whose values may be logged. Others (a key put there by mistake) are logged by name only.
_LOGGED = frozenset(
    {
        "bucket",
        "prefix",
        "key",
        "min",
        "max",
        "profile",
        "job",
        "model",
        "status",
        "state",
        "sort",
        "worst",
        "best",
        "limit",
    }
)
_QUIET = frozenset({"/healthz", "/readyz", "/metrics"})  #: asked every few seconds: logged only when they fail

_BAD_HOST = Kind(400, "bad_host")
_FOREIGN_ORIGIN = Kind(403, "foreign_origin")
_UNAUTHORIZED = Kind(401, "unauthorized")
_TOO_LARGE = Kind(413, "content_too_large")
_HEADERS = {_UNAUTHORIZED: {"WWW-Authenticate": "Bearer"}, _TOO_LARGE: {"Connection": "close"}}


class Recorder:
    """Logs and counts every request, by route and not by path: paths are without end."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, then log and count."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status, started = 500, time.perf_counter()

        async def watching(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watching)
        finally:
            self._record(scope, status, time.perf_counter() - started)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        method = scope["method"] if scope["method"].isalpha() and len(scope["method"]) <= 7 else "other"
        self.metrics.requests.labels(method, route, str(status)).inc()
        self.metrics.seconds.labels(method, route).observe(seconds)
        if route not in _QUIET or status >= 400:
            client = (scope.get("client") or ("?",))[0]
            asked = {
                "method": method,
                "path": shorten(scope["path"], MAX_TEXT),
                "query": _query(scope),
                "client": client,
            }
            log.info("request", status=status, ms=round(seconds * 1000, 1), **asked)


def _query(scope: Scope) -> dict[str, str]:
    given = QueryParams(scope.get("query_string", b"")).multi_items()[:20]
    return {shorten(name, 32): shorten(value, MAX_TEXT) if name in _LOGGED else "***" for name, value in given}


class Guard:
    """Refuses a wrong host, a foreign web page, a missing key and a body that is too large, in this order."""

    def __init__(self, app: ASGIApp, access: Access, max_body: int = MAX_BODY_BYTES) -> None:
        self.app, self.access, self.max_body = app, access, max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, or answer with a problem."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refused = self._refusal(scope, Headers(scope=scope))
        if refused is None:
            await self.app(scope, self._counted(receive), send)
            return
        kind, detail, hint = refused
        problem = response(kind, detail=detail, hint=hint, instance=scope["path"], headers=_HEADERS.get(kind))
        await problem(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[Kind, str, str] | None:
        if not self.access.admits_host(headers):
            return _BAD_HOST, "the Host header does not name this service", "call it as localhost or 127.0.0.1"
        if scope["method"] not in _SAFE_METHODS and not self.access.admits_origin(headers):
            return _FOREIGN_ORIGIN, "a web page of another site sent this request", "send it from a program"
        if not self.access.admits_key(scope["path"], headers):
            hint = "send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`"
            return _UNAUTHORIZED, "the API key is missing or wrong", hint
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self.max_body:
            return _TOO_LARGE, self._limit(), "send less in one request"
        return None

    def _limit(self) -> str:
        return f"the body is larger than {self.max_body} bytes"

    def _counted(self, receive: Receive) -> Receive:
        """Count a body that comes without a length; the framework answers the exception with a problem."""
        seen = 0

        async def counting() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.max_body:
                raise HTTPException(413, self._limit())
            return message

        return counting
