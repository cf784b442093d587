"""Errors as `application/problem+json` bodies (RFC 9457): one table maps our errors to statuses.

Errors of the caller keep their own sentence and hint. Unavailable parts and errors of this service get a fixed
sentence: their cause (host names, SQL, file names) goes to the log, not to the caller.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, NamedTuple

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from dpiqa import errors as e
from dpiqa.addresses import BUCKET_PATTERN
from dpiqa.http_api.job_requests import KIND
from dpiqa.requirement import NAME_OR_ID_PATTERN, NAME_PATTERN
from dpiqa.text import shorten
from dpiqa.types import DatabaseFault
from dpiqa.validation import problem_in_words

from .paths import methods_of, without_slash

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
MAX_TEXT = 256  #: characters of caller-given text repeated in a body or a log line
_MAX_PROBLEMS = 20  #: wrong fields named in one 422
_RETRY_SECONDS = "5"
_FIELDS = "see /docs for the fields and their limits"
_LATER = "try again; GET /readyz says which part is down"
_OPERATOR = "ask the operator of this service; its log has the cause"


#: The forms that fields must have, in words.
FORMS = {
    f"^{BUCKET_PATTERN}$": "must be the name of a bucket, e.g. photos",
    f"^s3://{BUCKET_PATTERN}(/.*)?$": "must be an address in S3, e.g. s3://photos/2024/",
    f"^s3://{BUCKET_PATTERN}/.*[^/]$": "must be the address of an object in S3, e.g. s3://lists/2024.csv.gz",
    f"^s3://{BUCKET_PATTERN}/.+$": "must be the address of an object in S3, e.g. s3://photos/2024/001.jpg",
    rf"^s3://{BUCKET_PATTERN}/.*[^/]\.(csv|jsonl|parquet)$": "must be an address in S3 that ends in .csv, .jsonl or "
    ".parquet, e.g. s3://reports/2024.parquet",
    r"^https?://[\x21-\x7e]+$": "must be an http or https URL without spaces, in ASCII",
    "^/": "must be an absolute path, e.g. /srv/photos",
    NAME_PATTERN: "must be 1 to 63 lower-case letters, digits, `.`, `_` or `-`, and begin with a letter or digit",
    NAME_OR_ID_PATTERN: "must be the name of a requirement, also with its version, e.g. portraits@1",
    r"^(latest|[0-9a-fA-F-]{6,36})$": "must be the id of a job, the first 6 or more digits of it, or `latest`",
    r"^[0-9a-fA-F-]{6,36}$": "must be an id, or the first 6 or more digits of it",
    r"^[0-9]{1,3}(\.[0-9]{1,6})?%?$": "must be a share, e.g. 5%",
    r"^[\x21-\x7e]+$": "must be ASCII without spaces",
}


class ProblemType(NamedTuple):
    """The response to one class of errors."""

    status: int
    code: str
    detail: str = ""  #: fixed sentence; empty: the error's own
    hint: str = ""  #: used where the error has none


#: The first class that fits wins, so subclasses stand before their bases.
PROBLEM_TYPES: tuple[tuple[type[Exception], ProblemType], ...] = (
    (e.NotFound, ProblemType(404, "not_found")),
    (e.Forbidden, ProblemType(403, "forbidden")),
    (e.LimitExceeded, ProblemType(429, "limit_exceeded")),
    (e.Overloaded, ProblemType(503, "overloaded")),
    (e.Conflict, ProblemType(409, "conflict", hint="change the request; `detail` says what it contradicts")),
    (e.ValueRefused, ProblemType(422, "invalid_request", "a value is out of range", _FIELDS)),
    (e.InvalidRequest, ProblemType(422, "invalid_request", hint=_FIELDS)),
    (
        e.DatabaseMisconfigured,
        ProblemType(503, "misconfigured", "the database is not set up for this service", _OPERATOR),
    ),
    (e.DatabaseUnavailable, ProblemType(503, "database_unavailable", "the database does not answer", _LATER)),
    (e.RowRefused, ProblemType(503, "database_unavailable", "the change met another one", "try again")),
    (e.BrokerRefuses, ProblemType(503, "broker_refuses")),
    (e.BrokerUnavailable, ProblemType(503, "broker_unavailable", "the message broker does not answer", _LATER)),
    (e.StoreUnavailable, ProblemType(503, "store_unavailable", "the object store does not answer", _LATER)),
    (e.Unavailable, ProblemType(503, "unavailable", "a part this request needs does not answer", _LATER)),
    (e.ConfigurationError, ProblemType(500, "misconfigured", "this service is misconfigured", _OPERATOR)),
    (Exception, ProblemType(500, "internal_error", "internal error", _OPERATOR)),
)


#: Faults of a database that answers.
_OF_FAULT: dict[DatabaseFault, ProblemType] = {
    DatabaseFault.TOO_SLOW: ProblemType(
        503, "too_slow", "this query takes too long", "narrow it: bucket, prefix, min, max, limit"
    ),
    DatabaseFault.READ_ONLY: ProblemType(
        503, "database_read_only", "the database accepts no changes now", "try again; requests that only read work"
    ),
    DatabaseFault.FULL: ProblemType(503, "database_full", "the database has no space or memory left", _OPERATOR),
    DatabaseFault.CONNECTIONS: ProblemType(503, "database_busy", "no database connection is free", "try again"),
    DatabaseFault.CONTENDED: ProblemType(503, "database_busy", "other changes are in the way", "try again"),
}


@contextmanager
def as_invalid_request(*errors: type[e.DpiqaError]) -> Iterator[None]:
    """Raise `InvalidRequest` for these errors: a name in the request is unknown or cannot be used, which is a 422."""
    try:
        yield
    except errors as error:
        raise e.InvalidRequest(error.message, hint=error.hint) from None


def problem_type_of(error: Exception) -> ProblemType:
    """Return the first problem type whose class fits."""
    if isinstance(error, e.DatabaseUnavailable) and error.fault in _OF_FAULT:
        return _OF_FAULT[error.fault]
    return next(problem for cls, problem in PROBLEM_TYPES if isinstance(error, cls))


def problem_response(
    problem: ProblemType,
    *,
    detail: str,
    instance: str,
    hint: str = "",
    headers: dict[str, str] | None = None,
    **members: Any,
) -> JSONResponse:
    """Build a response with the members of RFC 9457, our `code` and `hint`, and further `members`."""
    body = {
        "type": f"urn:dpiqa:problem:{problem.code}",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": shorten(detail, 2 * MAX_TEXT),
        "instance": shorten(instance, MAX_TEXT),
        "code": problem.code,
        "hint": hint or problem.hint,
        **members,
    }
    return JSONResponse(body, problem.status, headers, media_type=MEDIA_TYPE)


def on_error(request: Request, error: Exception) -> JSONResponse:
    """Answer one of our errors, or an unexpected error."""
    problem = problem_type_of(error)
    headers = {"Retry-After": _RETRY_SECONDS} if problem.status == 503 else None
    if isinstance(error, e.Overloaded):
        headers = {"Retry-After": "60"}
    if isinstance(error, e.LimitExceeded):
        headers = {"Retry-After": str(error.retry_seconds)}
    if isinstance(error, e.DpiqaError) and not problem.detail:
        detail, hint = error.message, error.hint
    else:
        detail, hint = problem.detail, problem.hint
        log.warning(
            "request_failed",
            path=shorten(request.url.path, MAX_TEXT),
            code=problem.code,
            error=shorten(str(error), MAX_TEXT),
        )
    return problem_response(problem, detail=detail, hint=hint, instance=request.url.path, headers=headers)


def on_http_error(request: Request, error: Exception) -> Response:
    """Answer what the framework itself refuses: no such path, wrong method, unreadable body."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    if status == 404 and (redirect := without_slash(request)) is not None:
        return redirect
    if status == 405:
        headers["Allow"] = ", ".join(methods_of(request))
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=headers)
    phrase = HTTPStatus(status).phrase
    problem = ProblemType(status, phrase.lower().replace(" ", "_"))
    hint = "see /docs for the paths, methods and fields" if status < 500 else ""
    if status == 405:
        hint = f"it takes {headers['Allow']}"
    detail = error.detail if isinstance(error, HTTPException) and status < 500 else phrase
    return problem_response(problem, detail=str(detail), hint=hint, instance=request.url.path, headers=headers)


def on_invalid(request: Request, error: Exception) -> JSONResponse:
    """Answer fields that do not fit the schema: names each with its problem, never repeats its value."""
    errors = error.errors() if isinstance(error, RequestValidationError) else []
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_json = media_type == "application/json" or media_type.endswith("+json")
    has_body = request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers
    if has_body and not is_json and errors and all(item["loc"][:1] == ("body",) for item in errors):
        detail = f"the body is {shorten(media_type, 100)}" if media_type else "the request has no Content-Type"
        hint = "send JSON, and with it `Content-Type: application/json`"
        return problem_response(
            ProblemType(415, "unsupported_media_type"), detail=detail, hint=hint, instance=request.url.path
        )
    problems = [
        {
            "field": shorten(_field(item), 100),
            "problem": shorten(problem_in_words(item, FORMS).replace(KIND, ""), MAX_TEXT),
        }
        for item in errors[:_MAX_PROBLEMS]
    ]
    detail = "; ".join(f"{item['field']}: {item['problem']}" for item in problems[:3]) or "the request is not valid"
    problem = ProblemType(422, "invalid_request")
    return problem_response(problem, detail=detail, hint=_FIELDS, instance=request.url.path, errors=problems)


def _field(problem: Any) -> str:
    """Return the place of a field with dots: without positions in text that is not JSON, and without kinds of jobs."""
    place = problem["loc"][:1] if problem["type"] == "json_invalid" else problem["loc"]
    return ".".join(str(part) for part in place if not str(part).startswith(KIND))


def install(app: FastAPI) -> None:
    """Answer every error of this application as a problem."""
    app.add_exception_handler(e.DpiqaError, on_error)
    app.add_exception_handler(Exception, on_error)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(RequestValidationError, on_invalid)
