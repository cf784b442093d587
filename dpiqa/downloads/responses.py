"""Responses of a download's server: bytes of the file, a reason to try again, or a reason to give up. Pure."""

import re
from dataclasses import dataclass

import httpx

from dpiqa.errors import ConfigurationError, DpiqaError, NotFound, SourceUnavailable

_RETRIED_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_PAGE_BYTES = 64 * 1024
_BY_HAND = "open the address in a browser, download the file by hand and name it: dpiqa models pull NAME --source FILE"


class Interrupted(Exception):
    """A try ended early; the next one may resume where it stopped. Never leaves `dpiqa.downloads`."""

    def __init__(self, reason: str, *, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after  #: seconds that the server asks to wait


@dataclass(frozen=True, slots=True)
class Body:
    """Position and version of a response's bytes."""

    offset: int  #: of the first byte, from the start of the file
    total: int | None  #: bytes of the whole file; None: the server does not state it
    validator: str  #: strong ETag, or time of the last change; "": versions cannot be told apart


def read_response(response: httpx.Response) -> Body:
    """Read status and headers of a streamed response.

    Raises `Interrupted` if a later try may succeed, else `NotFound`, `ConfigurationError`, `SourceUnavailable`.
    """
    status = response.status_code
    if status in _RETRIED_STATUSES:
        retry_after = response.headers.get("Retry-After", "")
        seconds = float(retry_after) if retry_after.isdigit() else None
        raise Interrupted(f"the server answers {status}", retry_after=seconds)
    if str(response.headers.get("Content-Type", "")).lower().startswith("text/html"):
        raise _html_error(response)
    if status not in {200, 206}:
        raise _refusal(response)
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise SourceUnavailable(f"{_address(response)} sends the file encoded, though asked not to", hint=_BY_HAND)
    if status == 200:
        length = response.headers.get("Content-Length", "")
        return Body(0, int(length) if length.isdigit() else None, _validator(response))
    content_range = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if content_range is None:
        raise Interrupted("the server sends a part of the file and does not say which")
    return Body(int(content_range[1]), int(content_range[2]), _validator(response))


def _validator(response: httpx.Response) -> str:
    """Return the ETag or the time of the last change.

    Weak ETags do not promise equal bytes (RFC 9110, 8.8.1) and must not be sent with If-Range.
    """
    etag = response.headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else str(response.headers.get("Last-Modified", ""))


def _html_error(response: httpx.Response) -> DpiqaError:
    """Return the error of an HTML page: Google Drive and proxies send their errors as HTML, often with status 200."""
    text = b""
    for chunk in response.iter_bytes():
        text += chunk
        if len(text) > _PAGE_BYTES:
            break
    page = text.decode("utf-8", "replace")
    title = " ".join((_TITLE.search(page) or ["", ""])[1].split()) or "no title"
    address = _address(response)
    if "quota" in page.lower():
        return SourceUnavailable(
            f"{address}: the file was downloaded too often lately (page: {title})", hint=f"wait a day, or {_BY_HAND}"
        )
    if "virus" in page.lower():
        return SourceUnavailable(f"{address} asks about a virus scan first (page: {title})", hint=_BY_HAND)
    if response.status_code in {404, 410}:
        return _refusal(response)
    return SourceUnavailable(f"{address} sends a web page instead of the file: {title}", hint=_BY_HAND)


def _refusal(response: httpx.Response) -> DpiqaError:
    address, status = _address(response), response.status_code
    if status in {404, 410}:
        return NotFound(f"there is no file at {address}", hint="name another place with --source or --revision")
    if status in {401, 403}:
        return ConfigurationError(
            f"{address} refuses access ({status})",
            hint="if the publisher asks for it, accept the terms on the model's page and set HF_TOKEN",
        )
    return SourceUnavailable(f"{address} answers {status}", hint="try later, or name another place with --source")


def _address(response: httpx.Response) -> str:
    """Return the address without its query, which carries signatures after redirects."""
    return str(response.url.copy_with(query=None))
