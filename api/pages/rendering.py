"""Rendering of pages: templates, what they may use, the headers of every page, and errors as pages."""

from collections.abc import Callable, Collection, Coroutine, Mapping
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response
from fastapi.routing import APIRoute
from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from dpiqa.access import Caller
from dpiqa.errors import ConfigurationError, DpiqaError, InvalidRequest
from dpiqa.text import first_field_error
from dpiqa.types import KeyScope

from ..errors import on_error, problem_type_of
from ..errors import on_http_error as http_error_answer
from ..monitoring import CALLER
from ..paths import route_path

Parameters = TypeVar("Parameters", bound=BaseModel)

_DAY, _HOUR, _MINUTE = 86_400, 3_600, 60
_RELEASE = version("dpiqa")


def when(value: datetime | None) -> str:
    """Return a time as UTC; `app.js` shows it in the reader's zone."""
    return "" if value is None else value.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def duration(seconds: float | None) -> str:
    """Return a duration in its two largest units, such as `3 h 12 min`."""
    if seconds is None:
        return "unknown"
    left = max(0, round(seconds))
    parts = [(left // _DAY, "d"), (left % _DAY // _HOUR, "h"), (left % _HOUR // _MINUTE, "min"), (left % _MINUTE, "s")]
    shown = [f"{n} {unit}" for n, unit in parts if n][:2]
    return " ".join(shown) or "0 s"


def ordinal(percentile: float | None) -> str:
    """Return a percentile as people say it, such as `12th`."""
    if percentile is None:
        return "-"
    n = int(percentile)
    suffix = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{suffix}"


def words(value: str) -> str:
    """Return the name of a state or a reason as words."""
    return str(value).replace("_", " ")


def query_of(values: Mapping[str, object]) -> str:
    """Return values as the query of an address, without those that are None or empty."""
    return urlencode([(name, value) for name, value in values.items() if value is not None and value != ""], doseq=True)


_ENVIRONMENT = Environment(
    loader=PackageLoader("dpiqa.api.pages"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters |= {
    "when": when,
    "duration": duration,
    "ordinal": ordinal,
    "words": words,
    "count": lambda n: f"{n:,}".replace(",", "\u2009"),
    "figure": lambda value: "undefined" if value is None else f"{value:.2f}",
    "score": lambda value: "-" if value is None else f"{value:.3f}",
    "query": query_of,
}


def compile_templates() -> None:
    """Compile all templates, so that no request waits for it."""
    for name in _ENVIRONMENT.list_templates():
        _ENVIRONMENT.get_template(name)


def check_template(template: str | None) -> None:
    """Raise `ConfigurationError` for a setting that is not the address of thumbnails."""
    try:
        address = urlsplit("https://host" if template is None else template.format(bucket="b", key="k", side=1))
    except (KeyError, IndexError, ValueError):
        raise ConfigurationError(
            "DPIQA_THUMBNAIL_URL is not an address", hint="use {bucket}, {key} and {side}, and no other braces"
        ) from None
    if address.scheme not in {"http", "https"} or not address.netloc or set(address.netloc) & set("; '\""):
        raise ConfigurationError(
            "DPIQA_THUMBNAIL_URL is not an address", hint="begin with http:// or https:// and the host"
        )


def picture_address(template: str | None, root: str, bucket: str, key: str, etag: str, side: int) -> str:
    """Return the address of a thumbnail: of this service, or of the user's image server."""
    if template:
        return template.format(bucket=quote(bucket, safe=""), key=quote(key), side=side)
    return f"{root}/thumbnail?{urlencode({'bucket': bucket, 'key': key, 'etag': etag, 'side': side})}"


def content_security_policy(thumbnail_url: str | None) -> str:
    """Return the policy of every page: only what this service serves, and pictures of the user's image server."""
    pictures = ""
    if thumbnail_url:
        address = urlsplit(thumbnail_url)
        pictures = f" {address.scheme}://{address.netloc}"
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:{pictures}; "
        "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )


def render(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a page. Beside `values`, templates have `root`, `caller`, `may_change` and `path`."""
    caller: Caller | None = getattr(request.state, CALLER, None)
    settings = request.app.state.settings
    text = _ENVIRONMENT.get_template(template).render(
        root=request.scope.get("root_path", ""),
        path=request.url.path.removeprefix(request.scope.get("root_path", "")),
        caller=caller,
        may_change=caller is not None and bool(caller.scopes & {KeyScope.SUBMIT, KeyScope.ADMIN}),
        has_session=caller is not None and caller.name != "local",
        release=_RELEASE,
        picture=partial(picture_address, settings.thumbnail_url),
        **values,
    )
    headers = {
        "Content-Security-Policy": content_security_policy(settings.thumbnail_url),
        "Referrer-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }
    return HTMLResponse(text, status, headers)


def is_part(request: Request) -> bool:
    """Return whether htmx asks for a part of a page, rather than a reader for all of it."""
    return "hx-request" in request.headers and "hx-history-restore-request" not in request.headers


def error_text(error: DpiqaError) -> str:
    """Return what is wrong and what to do, in one line for a part of a page."""
    _, message, hint = _shown(error)
    return ". ".join(text for text in (message, hint) if text)


def _shown(error: DpiqaError) -> tuple[int, str, str]:
    """Return status, sentence and hint of an error: its own, unless they could name hosts, SQL or files."""
    problem = problem_type_of(error)
    return (
        (problem.status, problem.detail, problem.hint)
        if problem.detail
        else (problem.status, error.message, error.hint)
    )


def read_query(request: Request, model: type[Parameters], lists: Collection[str] = ()) -> Parameters:
    """Read the query of the address; a form sends its empty fields too. `lists`: names that may be repeated.

    Raises `InvalidRequest`.
    """
    values: dict[str, Any] = {}
    for name, value in request.query_params.multi_items():
        if value == "":
            continue
        if name in lists:
            values.setdefault(name, []).append(value)
        else:
            values[name] = value
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InvalidRequest(str(first_field_error(error)), hint="correct the filter") from None


def error_page(request: Request, status: int, message: str, hint: str = "") -> HTMLResponse:
    """Return the page that says what is wrong and what to do."""
    title = HTTPStatus(status).phrase
    return render(request, "error.html", status=status, title=title, message=message, hint=hint)


def on_http_error(request: Request, error: Exception) -> Response:
    """Answer as `dpiqa.api.errors.on_http_error`; a browser that asks for a path that does not exist gets a page."""
    answer = http_error_answer(request, error)
    is_browser = "text/html" in request.headers.get("accept", "") and not route_path(request.scope).startswith("/v1/")
    if answer.status_code == 404 and is_browser:
        return error_page(request, 404, "There is no such page.", "Choose one above.")
    return answer


class PageRoute(APIRoute):
    """A route that answers errors with a page instead of a problem as JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See `APIRoute`."""
        serve = super().get_route_handler()

        async def serve_page(request: Request) -> Response:
            try:
                return await serve(request)
            except RequestValidationError as error:
                first = error.errors()[0]
                field = ".".join(str(part) for part in first["loc"][1:]) or "the address"
                return error_page(request, 422, f"{field}: {first['msg']}", "correct the address")
            except HTTPException as error:
                return error_page(request, error.status_code, str(error.detail))
            except DpiqaError as error:
                on_error(request, error)  # for the log
                return error_page(request, *_shown(error))

        return serve_page
