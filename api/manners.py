"""HTTP manners that hold for every route: a path prefix, HEAD, caching, what a client accepts, and CORS."""

import hashlib
from collections.abc import MutableMapping
from typing import Any

import structlog
from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.gzip import DEFAULT_EXCLUDED_CONTENT_TYPES, GZipMiddleware
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import ProblemType, on_error, problem_response

log = structlog.get_logger()

#: `Cache-Control` of answers that cannot change, or say when they did: kept, and asked for again by their ETag each
#: time, so that a key that is revoked or limited counts at once. Every other answer is `no-store`.
REVALIDATED = "private, no-cache"
CORS_METHODS = ("GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS")
CORS_REQUEST_HEADERS = (
    "Authorization",
    "X-API-Key",
    "X-Request-ID",
    "Idempotency-Key",
    "If-None-Match",
    "Last-Event-ID",
    "Content-Type",
)
CORS_RESPONSE_HEADERS = (
    "Location",
    "Link",
    "ETag",
    "Retry-After",
    "Allow",
    "Content-Disposition",
    "X-Dpiqa-Schema",
    "X-Request-ID",
)
GZIP_LEVEL = 5  #: of 9: a page of a thousand scores becomes a tenth in a few milliseconds
_COMPRESSED = ("application/vnd.apache.parquet",)  #: beside images and the like
_NOT_ACCEPTABLE = ProblemType(406, "not_acceptable")


class PathPrefix:
    """Middleware for a service at a path of a host, such as `/dpiqa`.

    A proxy may strip the prefix or pass it on: both are served, and links and redirects name it.
    """

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self.app, self.prefix = app, prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve with the prefix in `root_path` and `path`, as ASGI wants it."""
        if scope["type"] == "http":
            path = scope["path"]
            if path == self.prefix:
                await RedirectResponse(f"{self.prefix}/", 308)(scope, receive, send)
                return
            scope["root_path"] = self.prefix
            scope["path"] = path if path.startswith(f"{self.prefix}/") else self.prefix + path
        await self.app(scope, receive, send)


class Gzip(GZipMiddleware):
    """Compresses what is worth it, also streams of rows; not events, which would wait in the compressor."""

    def __init__(self, app: ASGIApp) -> None:
        excluded = (*DEFAULT_EXCLUDED_CONTENT_TYPES, *_COMPRESSED)
        super().__init__(app, minimum_size=1000, compresslevel=GZIP_LEVEL, exclude_content_types=excluded)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve; uncompressed for a client that says `gzip;q=0`."""
        accepted = Headers(scope=scope).get("accept-encoding", "") if scope["type"] == "http" else ""
        app = super().__call__ if accepts(accepted, "gzip") or "gzip" not in accepted else self.app
        await app(scope, receive, send)


class _Complete(Exception):
    """The answer was sent: nothing more is wanted of the route."""


class Answers:
    """Middleware that completes answers: HEAD as GET without a body, `Cache-Control`, ETags and 304, 406, and 500."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        inner: MutableMapping[str, Any] = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        answer = _Answer(scope, send)
        try:
            await self.app(inner, receive, answer.send)
        except _Complete:
            pass
        except Exception as error:
            if answer.started:
                raise
            log.exception("request_crashed")
            await on_error(Request(scope), error)(inner, receive, answer.send)
        finally:
            if "route" in inner:
                scope["route"] = inner["route"]  # for the log


class _Answer:
    """One answer on its way to the client."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope, self._send = scope, send
        self._request = Headers(scope=scope)
        self._is_read = scope["method"] in ("GET", "HEAD")
        self._held: Message | None = None  # the start of an answer whose ETag is made of its body
        self.started = False

    async def send(self, message: Message) -> None:
        """Send a message of the route, or what it becomes. Raises `_Complete`."""
        if message["type"] == "http.response.start":
            await self._start(message)
        elif message["type"] != "http.response.body":
            await self._send(message)
        elif self._held is not None:
            start, self._held = self._held, None
            if not message.get("more_body", False):
                digest = hashlib.sha256(message.get("body", b"")).hexdigest()[:32]
                MutableHeaders(scope=start)["ETag"] = f'W/"{digest}"'
            await self._send_start(start)
            await self._body(message)
        else:
            await self._body(message)

    async def _start(self, message: Message) -> None:
        self.started = True
        message.setdefault("headers", [])
        headers = MutableHeaders(scope=message)
        location, prefix = headers.get("location", ""), self._scope.get("root_path", "")
        if prefix and location.startswith("/") and not location.startswith(f"{prefix}/"):
            headers["Location"] = prefix + location
        if "cache-control" not in headers:
            headers["Cache-Control"] = "no-store"
        if self._is_read and message["status"] < 300 and not self._is_acceptable(headers):
            await self._refuse(headers.get("content-type", ""))
        if self._is_read and message["status"] == 200 and "no-store" not in headers["Cache-Control"]:
            if "etag" in headers:
                await self._send_start(message)
            else:
                self._held = message
            return
        await self._send(message)

    async def _send_start(self, message: Message) -> None:
        """Send the start of an answer that may be kept; instead of what the client has, 304."""
        headers = MutableHeaders(scope=message)
        if not matches(self._request.get("if-none-match"), headers.get("etag")):
            await self._send(message)
            return
        for name in ("content-length", "content-type", "content-disposition"):
            if name in headers:
                del headers[name]
        await self._send({**message, "status": 304})
        await self._finish()

    async def _body(self, message: Message) -> None:
        if self._scope["method"] == "HEAD":
            await self._finish()
        await self._send(message)

    async def _finish(self) -> None:
        """End the answer without a body; a route that would go on, such as a stream of events, is left."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        raise _Complete

    def _is_acceptable(self, headers: Headers) -> bool:
        """Return whether the client accepts the type of an answer. A file is what was asked for, whatever is said."""
        media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        if not media_type or "content-disposition" in headers:
            return True
        return accepts(self._request.get("accept"), media_type)

    async def _refuse(self, media_type: str) -> None:
        detail = f"this answers with {media_type.partition(';')[0]}, which the header Accept excludes"
        response = problem_response(
            _NOT_ACCEPTABLE,
            detail=detail,
            hint="leave the header Accept out, or name this type in it",
            instance=self._scope["path"],
            headers={"Cache-Control": "no-store"},
        )
        await response(self._scope, _nothing, self._send)
        raise _Complete


async def _nothing() -> Message:
    return {"type": "http.disconnect"}


def accepts(header: str | None, value: str) -> bool:
    """Return whether a header such as `Accept` admits a value; a missing or empty one admits all."""
    if not header or not header.strip():
        return True
    kind = value.partition("/")[0]
    best: tuple[int, bool] = (-1, False)  # the most specific range decides
    for part in header.split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        specific = {value: 2, f"{kind}/*": 1, "*/*": 0, "*": 0}.get(name)
        if specific is None:
            continue
        weight = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        best = max(best, (specific, weight.strip("0.") != ""))
    return best[1]


def matches(if_none_match: str | None, etag: str | None) -> bool:
    """Return whether the client has an answer, by weak comparison."""
    if not if_none_match or not etag:
        return False
    known = {part.strip().removeprefix("W/") for part in if_none_match.split(",")}
    return "*" in known or etag.removeprefix("W/") in known
