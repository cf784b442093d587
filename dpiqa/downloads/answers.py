"""What a server's answer means: go on, try again, or give up. Pure."""

import re
from dataclasses import dataclass

import httpx

from dpiqa.downloads.errors import Interrupted
from dpiqa.errors import ConfigurationError, DpiqaError, NotFound, SourceUnavailable

_TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_PAGE_BYTES = 64 * 1024
_BY_HAND = "open the address in a browser, download the file by hand and name it: dpiqa models pull NAME --source FILE"


@dataclass(frozen=True, slots=True)
class Body:
    """What the bytes of an answer are."""

    offset: int  #: of the first byte, from the start of the file
    total: int | None  #: bytes of the whole file; None: the server does not say
    validator: str  #: strong ETag, or time of the last change; "": nothing tells one version from another


def read_answer(response: httpx.Response) -> Body:
    """Read status and headers of a streamed answer.

    Raises `Interrupted` where a later try may do better, else `NotFound`, `ConfigurationError`, `SourceUnavailable`.
    """
    status = response.status_code
    if status in _TRY_AGAIN:
        raise Interrupted(f"the server answers {status}", retry_after=_seconds(response.headers.get("Retry-After")))
    if _is_page(response):
        raise _page_error(response)
    if status not in {200, 206}:
        raise _refusal(response)
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise SourceUnavailable(f"{_where(response)} sends the file encoded, though asked not to", hint=_BY_HAND)
    return _partial(response) if status == 206 else Body(0, _length(response), _validator(response))


def _partial(response: httpx.Response) -> Body:
    stated = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if stated is None:
        raise Interrupted("the server sends a part of the file and does not say which")
    return Body(int(stated[1]), int(stated[2]), _validator(response))


def _validator(response: httpx.Response) -> str:
    """Weak ETags promise no equal bytes (RFC 9110, 8.8.1) and may not be asked for with If-Range."""
    etag = response.headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else str(response.headers.get("Last-Modified", ""))


def _length(response: httpx.Response) -> int | None:
    stated = response.headers.get("Content-Length", "")
    return int(stated) if stated.isdigit() else None


def _seconds(stated: str | None) -> float | None:
    return float(stated) if stated and stated.isdigit() else None


def _is_page(response: httpx.Response) -> bool:
    return str(response.headers.get("Content-Type", "")).lower().startswith("text/html")


def _page_error(response: httpx.Response) -> DpiqaError:
    """Google Drive and proxies say what they have to say in HTML, often with status 200."""
    text = b""
    for chunk in response.iter_bytes():
        text += chunk
        if len(text) > _PAGE_BYTES:
            break
    page = text.decode("utf-8", "replace")
    title = " ".join((_TITLE.search(page) or ["", ""])[1].split()) or "no title"
    where = _where(response)
    if "quota" in page.lower():
        return SourceUnavailable(
            f"{where}: the file was downloaded too often lately (page: {title})", hint=f"wait a day, or {_BY_HAND}"
        )
    if "virus" in page.lower():
        return SourceUnavailable(f"{where} asks about a virus scan first (page: {title})", hint=_BY_HAND)
    if response.status_code in {404, 410}:
        return _refusal(response)
    return SourceUnavailable(f"{where} sends a web page instead of the file: {title}", hint=_BY_HAND)


def _refusal(response: httpx.Response) -> DpiqaError:
    where, status = _where(response), response.status_code
    if status in {404, 410}:
        return NotFound(f"there is no file at {where}", hint="name another place with --source or --revision")
    if status in {401, 403}:
        return ConfigurationError(
            f"{where} refuses access ({status})",
            hint="if the publisher asks for it, accept the terms on the model's page and set HF_TOKEN",
        )
    return SourceUnavailable(f"{where} answers {status}", hint="try later, or name another place with --source")


def _where(response: httpx.Response) -> str:
    """Name the address without its query: redirects carry signatures there."""
    return str(response.url.copy_with(query=None))
