"""Guard: refuses a wrong host, a foreign web page, a missing key and a large body, and names the caller to the routes.

FastAPI's `HTTPBearer` and `APIKeyHeader` do not replace the check of the key: as dependencies of routes they run after
the body was read, and unknown paths would answer without a key.
"""

from collections.abc import Mapping

from fastapi import Request
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dpiqa.access import Actor, acting_as
from dpiqa.errors import DpiqaError, LimitExceeded

from .authentication import Authenticator, WrongKey, key_of
from .errors import ProblemType, on_error, problem_response
from .monitoring import CALLER, REQUEST_ID, Metrics
from .paths import route_path
from .security import Rules

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
                refusal = _problem(_UNAUTHORIZED, "the API key is missing or wrong", hint, path)
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


def _problem(problem: ProblemType, detail: str, hint: str, path: str) -> Response:
    return problem_response(problem, detail=detail, hint=hint, instance=path, headers=_HEADERS.get(problem))


def _limit(max_body: int) -> str:
    return f"the body is larger than {max_body} bytes"
