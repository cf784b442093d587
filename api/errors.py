"""Every error as an `application/problem+json` body (RFC 9457): one table from our errors to statuses.

Errors of the caller keep their own sentence and hint. Errors of the world or of ours get a fixed sentence: what
really happened (host names, SQL, file names) is for the log, not for the caller.
"""

from http import HTTPStatus
from typing import Any, NamedTuple

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DataError
from starlette.exceptions import HTTPException

from dpiqa import errors as e
from dpiqa.text import shorten

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
MAX_TEXT = 256  #: characters of caller-given text repeated in a body or a log line
_MAX_PROBLEMS = 20  #: wrong fields named in one 422
_RETRY_SECONDS = "5"
_FIELDS = "see /docs for the fields and their limits"
_LATER = "try again; GET /readyz says which part is down"


class Kind(NamedTuple):
    """How one class of errors looks from outside."""

    status: int
    code: str
    detail: str = ""  #: fixed sentence; empty: the error's own
    hint: str = ""  #: used where the error names none


#: The one table; the first class that fits wins, so special ones stand before their bases.
TABLE: tuple[tuple[type[Exception], Kind], ...] = (
    (e.NotFound, Kind(404, "not_found")),
    (e.Conflict, Kind(409, "conflict", hint="send another Idempotency-Key, or the same request as before")),
    (e.InvalidRequest, Kind(422, "invalid_request", hint=_FIELDS)),
    (DataError, Kind(422, "invalid_request", "a value is outside of what can be stored or compared", _FIELDS)),
    (e.DatabaseUnavailable, Kind(503, "database_unavailable", "the database does not answer", _LATER)),
    (e.BrokerUnavailable, Kind(503, "broker_unavailable", "the message broker does not answer", _LATER)),
    (e.StoreUnavailable, Kind(503, "store_unavailable", "the object store does not answer", _LATER)),
    (e.Unavailable, Kind(503, "unavailable", "a part this request needs does not answer", _LATER)),
    (e.ConfigurationError, Kind(500, "misconfigured", "this service is misconfigured", "ask who runs it: see its log")),
    (Exception, Kind(500, "internal_error", "this request failed by a fault of ours", "ask who runs it: see its log")),
)


#: The database does answer; it was told to stop. Postgres: `query_canceled`.
_TOO_SLOW = Kind(
    503, "too_slow", "this question takes too long to answer", "narrow it: bucket, prefix, min, max, limit"
)
_QUERY_CANCELED = "57014"


def kind_of(error: Exception) -> Kind:
    """Return the first row of the table that fits."""
    if getattr(getattr(error.__cause__, "orig", None), "sqlstate", None) == _QUERY_CANCELED:
        return _TOO_SLOW
    return next(kind for cls, kind in TABLE if isinstance(error, cls))


def body(kind: Kind, *, detail: str, instance: str, hint: str = "", **more: Any) -> dict[str, Any]:
    """Build the members of RFC 9457, with our `code` and `hint`."""
    return {
        "type": f"urn:dpiqa:problem:{kind.code}",
        "title": HTTPStatus(kind.status).phrase,
        "status": kind.status,
        "detail": shorten(detail, 2 * MAX_TEXT),
        "instance": shorten(instance, MAX_TEXT),
        "code": kind.code,
        "hint": hint or kind.hint,
        **more,
    }


def response(
    kind: Kind, *, detail: str, instance: str, hint: str = "", headers: dict[str, str] | None = None, **more: Any
) -> JSONResponse:
    """Build a problem response; also used by the middleware, which stands outside the handlers."""
    content = body(kind, detail=detail, instance=instance, hint=hint, **more)
    return JSONResponse(content, kind.status, headers, media_type=MEDIA_TYPE)


def on_error(request: Request, error: Exception) -> JSONResponse:
    """Answer one of our errors, or one that nobody foresaw."""
    kind = kind_of(error)
    headers = {"Retry-After": _RETRY_SECONDS} if kind.status == 503 else None
    own = isinstance(error, e.DpiqaError) and not kind.detail
    if not own:
        log.warning(
            "request_failed",
            path=shorten(request.url.path, MAX_TEXT),
            code=kind.code,
            error=shorten(str(error), MAX_TEXT),
        )
    detail, hint = (error.message, error.hint) if own and isinstance(error, e.DpiqaError) else (kind.detail, kind.hint)
    return response(kind, detail=detail, hint=hint, instance=request.url.path, headers=headers)


def on_http_error(request: Request, error: Exception) -> JSONResponse:
    """Answer what the framework itself refuses: no such path, wrong method, unreadable body."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    phrase = HTTPStatus(status).phrase
    kind = Kind(status, phrase.lower().replace(" ", "_"))
    hint = "see /docs for the paths, methods and fields" if status < 500 else ""
    detail = error.detail if isinstance(error, HTTPException) and status < 500 else phrase
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    return response(kind, detail=str(detail), hint=hint, instance=request.url.path, headers=headers)


def on_invalid(request: Request, error: Exception) -> JSONResponse:
    """Answer fields that do not fit the schema: names each with what is wrong, never repeats its value."""
    found = error.errors() if isinstance(error, RequestValidationError) else []
    wrong = [
        {"field": _field(item["loc"]), "problem": shorten(str(item["msg"]), MAX_TEXT)} for item in found[:_MAX_PROBLEMS]
    ]
    detail = "; ".join(f"{item['field']}: {item['problem']}" for item in wrong[:3]) or "the request is not valid"
    kind = Kind(422, "invalid_request")
    return response(kind, detail=detail, hint=_FIELDS, instance=request.url.path, errors=wrong)


def _field(location: tuple[int | str, ...]) -> str:
    return shorten(".".join(str(part) for part in location), 100)


def install(app: FastAPI) -> None:
    """Answer every error of this application as a problem."""
    app.add_exception_handler(e.DpiqaError, on_error)
    app.add_exception_handler(DataError, on_error)
    app.add_exception_handler(Exception, on_error)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(RequestValidationError, on_invalid)
