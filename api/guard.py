"""Guard: refuses a wrong host, a foreign web page, a missing key and a large body, and names the caller to the routes.

FastAPI's `HTTPBearer` and `APIKeyHeader` do not replace the check of the key: as dependencies of routes they run after
the body was read, and unknown paths would answer without a key.
"""

from collections.abc import Mapping
from urllib.parse import urlencode

from fastapi import Request
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dpiqa.access import Actor, acting_as
from dpiqa.errors import DpiqaError, LimitExceeded

from .authentication import Authenticator, WrongKey, key_of
from .errors import ProblemType, on_error, problem_response
from .monitoring import CALLER, REQUEST_ID, Metrics
from .paths import route_path
from .security import Rules, is_page, is_same_origin
from .sessions import COOKIE

MAX_BODY_BYTES = 1024 * 1024  #: the largest request body; an S3 event is under 64 KB
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

_BAD_HOST = ProblemType(400, "bad_host")
_FOREIGN_ORIGIN = ProblemType(403, "foreign_origin")
_UNAUTHORIZED = ProblemType(401, "unauthorized")
_TOO_LARGE = ProblemType(413, "content_too_large")
_HEADERS = {_UNAUTHORIZED: {"WWW-Authenticate": "Bearer"}, _TOO_LARGE: {"Connection": "close"}}


class Guard:
    """Middleware that refuses, in the order of the module's first line."""

    def __init__(
        self,
        app: ASGIApp,
        rules: Rules,
        authenticator: Authenticator,
        metrics: Metrics,
        max_body: int = MAX_BODY_BYTES,
        max_bodies: Mapping[str, int] | None = None,
    ) -> None:
        self.app, self.rules, self.authenticator, self.max_body = app, rules, authenticator, max_body
        self.metrics = metrics
        self.max_bodies = max_bodies or {}  #: by path; other paths: `max_body`

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, or answer with a problem."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers, path = Headers(scope=scope), route_path(scope)
        address = (scope.get("client") or ("?",))[0]
        refusal = self._refusal_before(scope, headers)
        if refusal is None and not self.rules.is_open(path):
            try:
                caller = await self.authenticator.authenticate(path, headers, address)
            except WrongKey:
                self.metrics.key_failures.labels("missing" if key_of(path, headers) is None else "wrong").inc()
                hint = "send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`"
                refusal = (
                    _to_login(scope, headers)
                    if is_page(path) and key_of(path, headers) is None
                    else _problem(_UNAUTHORIZED, "the API key is missing or wrong", hint, path)
                )
            except DpiqaError as error:
                if isinstance(error, LimitExceeded):
                    self.metrics.key_failures.labels("limit").inc()
                refusal = on_error(Request(scope), error)
            else:
                scope.setdefault("state", {})[CALLER] = caller
        refusal = refusal or self._refusal_of_length(headers, path)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        state = scope.get("state", {})
        caller = state.get(CALLER)
        if caller is None:
            await self.app(scope, self._counted(receive, self._max_body(path)), send)
            return
        actor = Actor(name=caller.name, key_id=caller.key_id, address=address, request_id=state.get(REQUEST_ID))
        with acting_as(actor):
            await self.app(scope, self._counted(receive, self._max_body(path)), send)

    def _refusal_before(self, scope: Scope, headers: Headers) -> Response | None:
        """Refuse what is not meant for this service."""
        if not self.rules.admits_host(headers):
            hint = "call it as localhost or 127.0.0.1"
            return _problem(_BAD_HOST, "the Host header does not name this service", hint, scope["path"])
        if scope["method"] not in _SAFE_METHODS and not self.rules.admits_origin(headers):
            detail = "a web page of another site sent this request"
            return _problem(_FOREIGN_ORIGIN, detail, "send it from a program", scope["path"])
        # A browser adds the cookie of a session by itself, so that a page of another site could use it.
        by_browser = is_page(route_path(scope)) or (COOKIE in headers.get("cookie", "") and key_of("", headers) is None)
        if scope["method"] not in _SAFE_METHODS and by_browser and not is_same_origin(headers):
            detail = "this request does not come from a page of this service"
            return _problem(_FOREIGN_ORIGIN, detail, "send it to a path under /v1, with a key", scope["path"])
        return None

    def _refusal_of_length(self, headers: Headers, path: str) -> Response | None:
        length, max_body = headers.get("content-length", "0"), self._max_body(path)
        if not length.isdecimal() or int(length) > max_body:
            return _problem(_TOO_LARGE, _limit(max_body), "send less in one request", path)
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


def _to_login(scope: Scope, headers: Headers) -> Response:
    """Send a browser without a session to the page where the key is entered, and back afterwards."""
    root, query = scope.get("root_path", ""), scope.get("query_string", b"").decode("latin-1")
    if headers.get("sec-fetch-site") == "cross-site" and COOKIE not in headers.get("cookie", ""):
        # The cookie is not sent after a link from another site: once more, from here.
        return HTMLResponse('<!doctype html><meta http-equiv="refresh" content="0"><title>dpiqa</title>')
    target = f"{root}/login?{urlencode({'next': route_path(scope) + ('?' + query if query else '')})}"
    if "hx-request" in headers:  # htmx would show the page in a part of another
        return Response(status_code=204, headers={"HX-Redirect": target})
    return RedirectResponse(target, 303)


def _problem(problem: ProblemType, detail: str, hint: str, path: str) -> Response:
    return problem_response(problem, detail=detail, hint=hint, instance=path, headers=_HEADERS.get(problem))


def _limit(max_body: int) -> str:
    return f"the body is larger than {max_body} bytes"
