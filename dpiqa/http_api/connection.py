"""The connection of the client: requests, retries, pages, files and events; problems become this project's errors."""

import time
import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, TypeAdapter

from dpiqa import errors as e
from dpiqa.files import replace_file

Body = TypeVar("Body")

RETRIES = 4  #: of a request that may be repeated, while the service says to come back, or cannot be reached
_MAX_WAIT_SECONDS = 30.0
_OF_CODE: dict[str, type[e.DpiqaError]] = {
    "overloaded": e.Overloaded,
    "misconfigured": e.DatabaseMisconfigured,
    "broker_unavailable": e.BrokerUnavailable,
    "store_unavailable": e.StoreUnavailable,
}
_OF_STATUS: dict[int, type[e.DpiqaError]] = {
    401: e.Forbidden,
    403: e.Forbidden,
    404: e.NotFound,
    409: e.Conflict,
    429: e.LimitExceeded,
}


class Connection:
    """HTTP requests to one service. Thread-safe."""

    def __init__(self, url: str, key: str | None, timeout: float, transport: httpx.BaseTransport | None) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.url = url
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout, transport=transport)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        key: str | None = None,
        retries: int = RETRIES,
        **options: Any,
    ) -> httpx.Response:
        """Send a request and return its answer. Raises as `Client`.

        `body`: a model or JSON value; `key`: its Idempotency-Key. A request that changes nothing twice is repeated.
        """
        headers = dict(options.pop("headers", {}))
        if key is not None:
            headers["Idempotency-Key"] = key
        if body is not None:
            options["json"] = body.model_dump(mode="json", exclude_unset=True) if isinstance(body, BaseModel) else body
        request = self._http.build_request(method, path, params=_parameters(query or {}), headers=headers, **options)
        may_repeat = method in ("GET", "DELETE") or key is not None
        for wait in (*(2.0**n / 2 for n in range(retries)), None):
            try:
                response = self._http.send(request)
            except httpx.HTTPError as error:
                if wait is None or not may_repeat:
                    raise self._unreachable(error) from None
                time.sleep(wait)
                continue
            if response.is_success:
                return response
            if wait is None or response.status_code not in (429, 503) or not may_repeat:
                raise error_of(response)
            asked = response.headers.get("Retry-After", "")
            time.sleep(min(float(asked) if asked.isdigit() else wait, _MAX_WAIT_SECONDS))
        raise AssertionError

    def read(self, kind: type[Body], method: str, path: str, **options: Any) -> Body:
        """Send a request and return its body as `kind`. Raises as `send`."""
        return read_body(kind, self.send(method, path, **options).content)

    def pages(self, kind: type[Body], path: str, query: Mapping[str, Any], limit: int | None) -> Iterator[Body]:
        """Yield pages of rows, up to `limit` rows, as they are asked for. Raises as `send`."""
        left, cursor = limit, None
        while left is None or left > 0:
            rows = 1000 if left is None else min(left, 1000)
            page = self.read(kind, "GET", path, query={**query, "limit": rows, "cursor": cursor})
            yield page
            cursor = page.next_cursor  # type: ignore[attr-defined] # of `Page`
            if cursor is None:
                return
            left = None if left is None else left - len(page.items)  # type: ignore[attr-defined]

    def download(self, path: str, query: Mapping[str, Any], output: Path) -> Path:
        """Write the body of an answer into a file, which appears when it is complete. Raises as `send`."""

        def write(unfinished: Path) -> None:
            with self._http.stream("GET", path, params=_parameters(query)) as response, unfinished.open("wb") as file:
                if not response.is_success:
                    response.read()
                    raise error_of(response)
                for part in response.iter_bytes():
                    file.write(part)

        try:
            replace_file(output, write)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None
        except OSError as error:
            raise e.ConfigurationError(f"{output} cannot be written: {error.strerror or error}") from None
        return output

    def events(self, path: str) -> Iterator[tuple[str, str]]:
        """Yield server-sent events as name and data, until the service ends them. Raises as `send`."""
        name = ""
        try:
            with self._http.stream("GET", path, headers={"Accept": "text/event-stream"}) as response:
                if not response.is_success:
                    response.read()
                    raise error_of(response)
                for line in response.iter_lines():
                    field, _, value = line.partition(": ")
                    if field == "event":
                        name = value
                    elif field == "data":
                        yield name, value
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None

    def _unreachable(self, error: httpx.HTTPError) -> e.Unavailable:
        return e.Unavailable(f"{self.url} does not answer: {error}", hint="check the URL, and that the API runs")


def read_body(kind: type[Body], content: bytes | str) -> Body:
    """Read a body. Fields that this version does not know are passed over."""
    return TypeAdapter(kind).validate_json(content)


def quoted(name: object) -> str:
    """Return a name as one part of a path."""
    return quote(str(name), safe="@:+")


def new_key() -> str:
    """Return an Idempotency-Key that no other request has."""
    return str(uuid.uuid4())


def error_of(response: httpx.Response) -> e.DpiqaError:
    """Return this project's error for an answer that is a problem, with its sentence and hint."""
    try:
        problem = response.json()
        message, hint, code = str(problem["detail"]), str(problem["hint"]), str(problem["code"])
    except (ValueError, KeyError, TypeError):
        message, hint, code = f"{response.url} answers {response.status_code}", "is this dpiqa's API?", ""
    status = response.status_code
    if status == 429:
        seconds = response.headers.get("Retry-After", "")
        return e.LimitExceeded(message, hint=hint, retry_seconds=int(seconds) if seconds.isdigit() else 60)
    if status >= 500:
        cls = _OF_CODE.get(code, e.DatabaseUnavailable if code.startswith("database") else e.Unavailable)
    else:
        cls = _OF_STATUS.get(status, e.InvalidRequest)
    return cls(message, hint=hint)


def _parameters(query: Mapping[str, Any]) -> httpx.QueryParams:
    """Return the parameters that have a value; lists are repeated."""
    pairs: list[tuple[str, str | int | float | bool | None]] = []
    for name, value in query.items():
        for one in value if isinstance(value, list | tuple) else [value]:
            if one is not None:
                text = str(one).lower() if isinstance(one, bool) else one
                pairs.append((name, text.isoformat() if isinstance(text, datetime) else str(text)))
    return httpx.QueryParams(pairs)
