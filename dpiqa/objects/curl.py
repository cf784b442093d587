"""GetObject over libcurl: what boto3 would send, at a fraction of its processor time.

boto3 builds the first request of a bucket, with all that it knows of endpoints, regions, addressing styles, access
points and settings, and is stopped before it sends it. Later requests repeat that one for other keys, signed as it is.
Errors are botocore's: a caller cannot tell which of the two asked.
"""

import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote, urlsplit

import pycurl
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    ReadTimeoutError,
    SSLError,
)

from dpiqa.objects.aws import read_time
from dpiqa.objects.signing import signed

if TYPE_CHECKING:
    from boto3.session import Session
    from mypy_boto3_s3 import S3Client

_SUPPRESS_CONNECT_HEADERS = 265  #: option of libcurl that pycurl does not name: nothing of what a proxy says first
_MAX_ENDPOINTS = 1000  #: buckets whose endpoint is remembered
_MAX_ERROR_BYTES = 64 * 1024  #: of the body of an error that are read
_BUFFER_BYTES = 256 * 1024  #: that libcurl reads at once
_PLACEHOLDER = "k"  #: key of the request that boto3 builds
#: Headers that belong to one request, or that libcurl writes itself.
_OWN_HEADERS = frozenset(
    {"authorization", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256", "amz-sdk-invocation-id",
     "amz-sdk-request", "host", "x-amzn-trace-id"}
)  # fmt: skip
_SCOPE = re.compile(r"AWS4-HMAC-SHA256 Credential=[^,]+/\d{8}/([^/,]+)/([^/,]+)/aws4_request,")
_SESSION = "x-amz-s3session-token"  #: of S3 Express, which signs with credentials of its own
#: Numbers of libcurl's errors, by what they mean.
_UNREACHABLE = frozenset({pycurl.E_COULDNT_RESOLVE_PROXY, pycurl.E_COULDNT_RESOLVE_HOST, pycurl.E_COULDNT_CONNECT})
_ENDED = frozenset({pycurl.E_GOT_NOTHING, pycurl.E_SEND_ERROR, pycurl.E_RECV_ERROR, 8})  # 8: an answer that is no HTTP
_UNTRUSTED = frozenset({pycurl.E_SSL_CONNECT_ERROR, pycurl.E_PEER_FAILED_VERIFICATION, pycurl.E_SSL_CACERT_BADFILE})

#: Headers that say something about an object, and boto3's names of them.
_FACTS = {"etag": "ETag", "x-amz-version-id": "VersionId", "content-encoding": "ContentEncoding",
          "content-range": "ContentRange"}  # fmt: skip
_building = threading.local()  #: `is_on` while boto3 builds a request of this thread that it is not to send

#: Given the facts of an answer's head, named as boto3 names them: the most bytes to read of its body, or None for all.
Accept = Callable[[Mapping[str, Any]], int | None]


class _BuiltError(Exception):
    """Carries a request out of boto3 before it is sent."""

    def __init__(self, request: Any) -> None:
        super().__init__()
        self.request = request


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The part of a request that all objects of a bucket share."""

    base: str  #: URL before the key
    headers: Mapping[str, str]
    scope: tuple[str, str] | None  #: region and service that the signature names; None: not signed
    proxy: str


@dataclass(slots=True)
class _Answer:
    """An answer while it arrives."""

    accept: Accept
    body_seconds: float
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    parts: list[bytes] = field(default_factory=list)
    left: int | None = None  #: bytes of the body that are still taken; None: all
    has_surplus: bool = False  #: whether there are more than are taken
    ends_at: float = 0.0  #: on the monotonic clock, when the body counts as too slow
    error: BaseException | None = None  #: why it was not read to its end
    has_body: bool = False

    def read_head(self, line: bytes) -> int | None:
        """Take a line of the head; the empty one ends it. Returns 0, which makes libcurl stop, for an error."""
        text = line.decode("latin-1").strip()
        if text.startswith("HTTP/"):
            self.status, self.headers = int(text.split(None, 2)[1]), {}
        elif text:
            name, _, value = text.partition(":")
            name, value = name.strip().lower(), value.strip()
            self.headers[name] = f"{self.headers[name]}, {value}" if name in self.headers else value
        elif self.status >= 200 and not self.has_body:
            self.has_body, self.ends_at = True, time.monotonic() + self.body_seconds
            self.left = _MAX_ERROR_BYTES
            if self.status < 300:
                self.facts = _facts(self.headers)
                try:
                    most = self.accept(self.facts)
                except BaseException as error:  # raised again once libcurl has returned
                    self.error = error
                    return 0
                self.left = None if most is None else most + 1
        return None

    def read_body(self, part: bytes) -> int | None:
        """Take a part of the body. Returns 0, which makes libcurl stop, once there is enough, or too late."""
        if self.left is not None:
            self.has_surplus = len(part) > self.left
            part = part[: self.left]
            self.left -= len(part)
        self.parts.append(part)
        if time.monotonic() > self.ends_at:
            self.error = ReadTimeoutError(endpoint_url="of the body")
        return 0 if self.error is not None or self.has_surplus else None


class CurlReader:
    """Reads objects. Thread-safe; after a fork, the child opens connections of its own.

    Seconds: `connect_seconds` for a connection, `read_seconds` for a part of the answer, `body_seconds` for the body.
    """

    def __init__(
        self,
        client: "S3Client",
        session: "Session",
        *,
        connect_seconds: float,
        read_seconds: float,
        body_seconds: float,
    ) -> None:
        from botocore.parsers import create_parser  # noqa: PLC0415 - as in `dpiqa.objects.aws`

        self._client, self._session = client, session
        self._seconds = connect_seconds, read_seconds, body_seconds
        self._endpoints: dict[str, Endpoint | None] = {}
        self._idle: dict[int, deque[pycurl.Curl]] = {}  # by process: a fork must not use its parent's connections
        self._parse = create_parser("rest-xml").parse
        client.meta.events.register_first("before-send.s3.GetObject", _stop_placeholder)

    def endpoint(self, bucket: str) -> Endpoint | None:
        """Return where the bucket is; None: boto3 alone can ask for it. Raises what boto3 raises for a request."""
        try:
            return self._endpoints[bucket]
        except KeyError:
            if len(self._endpoints) >= _MAX_ENDPOINTS:
                self._endpoints.clear()
            endpoint = self._endpoints[bucket] = self._built(bucket)
            return endpoint

    def forget(self, bucket: str) -> None:
        """Have boto3 build the bucket's next request: the answer was that it is elsewhere."""
        self._endpoints.pop(bucket, None)

    def get(self, endpoint: Endpoint, arguments: Mapping[str, str], accept: Accept) -> tuple[Mapping[str, Any], bytes]:
        """Request an object; `arguments` are boto3's: Key, VersionId, Range. Returns its facts and its bytes.

        `accept` is called before the body is read, and may raise. Raises the errors that boto3 raises.
        """
        version = f"?versionId={quote(arguments['VersionId'], safe='')}" if "VersionId" in arguments else ""
        url = f"{endpoint.base}{quote(arguments['Key'], safe='/~')}{version}"
        headers = {**endpoint.headers, **({"Range": arguments["Range"]} if "Range" in arguments else {})}
        answer = _Answer(accept, self._seconds[2])
        self._perform(url, self._signed(url, headers, endpoint), endpoint, answer)
        data = answer.parts[0] if len(answer.parts) == 1 else b"".join(answer.parts)
        if answer.status >= 300:
            self._refuse(answer, data)
        return answer.facts, data

    def _built(self, bucket: str) -> Endpoint | None:
        """Let boto3 build a request; return what can be repeated of it, or None."""
        _building.is_on = True
        try:
            self._client.get_object(Bucket=bucket, Key=_PLACEHOLDER)
        except _BuiltError as built:
            request = built.request
        finally:
            _building.is_on = False
        headers = {name: _text(value) for name, value in request.headers.items()}
        signature = headers.get("Authorization", "")
        scope = _SCOPE.match(signature)
        url = str(request.url)
        is_repeated = url.endswith(f"/{_PLACEHOLDER}") and _SESSION not in map(str.lower, headers)
        if not is_repeated or (signature and not scope):
            return None
        return Endpoint(
            base=url.removesuffix(_PLACEHOLDER),
            headers={name: value for name, value in headers.items() if name.lower() not in _OWN_HEADERS},
            scope=(scope[1], scope[2]) if scope else None,
            proxy=_proxy(url),
        )

    def _signed(self, url: str, headers: Mapping[str, str], endpoint: Endpoint) -> list[str]:
        """Return the lines of the head."""
        if endpoint.scope is not None:
            credentials = self._session.get_credentials()
            if credentials is None:
                raise NoCredentialsError
            headers = signed(url, headers, credentials.get_frozen_credentials(), endpoint.scope)
        return [f"{name}: {value}" for name, value in headers.items()]

    def _perform(self, url: str, headers: list[str], endpoint: Endpoint, answer: _Answer) -> None:
        idle = self._idle.setdefault(os.getpid(), deque())
        try:
            handle = idle.pop()
        except IndexError:
            handle = self._handle()
        handle.setopt(pycurl.URL, url)
        handle.setopt(pycurl.PROXY, endpoint.proxy)
        handle.setopt(pycurl.HTTPHEADER, headers)
        handle.setopt(pycurl.HEADERFUNCTION, answer.read_head)
        handle.setopt(pycurl.WRITEFUNCTION, answer.read_body)
        try:
            handle.perform()
        except pycurl.error as error:
            if answer.error is not None:
                raise answer.error from None
            if not answer.has_surplus:
                _raise(handle, error, url, answer)
        finally:
            handle.setopt(pycurl.HEADERFUNCTION, _ignore)  # or the handle would keep the bytes
            handle.setopt(pycurl.WRITEFUNCTION, _ignore)
            idle.append(handle)

    def _handle(self) -> pycurl.Curl:
        """Return a connection to be, with all that holds for every request."""
        connect, read, body = self._seconds
        handle = pycurl.Curl()
        handle.setopt(pycurl.NOSIGNAL, 1)
        handle.setopt(pycurl.PATH_AS_IS, 1)  # keys may have the parts `.` and `..`
        handle.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        handle.setopt(pycurl.BUFFERSIZE, _BUFFER_BYTES)
        handle.setopt(_SUPPRESS_CONNECT_HEADERS, 1)
        handle.setopt(pycurl.CONNECTTIMEOUT_MS, max(1, round(1000 * connect)))
        handle.setopt(pycurl.LOW_SPEED_LIMIT, 1)
        handle.setopt(pycurl.LOW_SPEED_TIME, max(1, round(read)))
        handle.setopt(pycurl.TIMEOUT_MS, round(1000 * (connect + read + body)))
        handle.setopt(pycurl.NETRC, pycurl.NETRC_IGNORED)
        bundle = _certificates(self._session)
        handle.setopt(pycurl.CAPATH if os.path.isdir(bundle) else pycurl.CAINFO, bundle)  # noqa: PTH112
        return handle

    def _refuse(self, answer: _Answer, body: bytes) -> NoReturn:
        """Raise the error that boto3 makes of an answer."""
        shape: Any = self._client.meta.service_model.operation_model("GetObject").output_shape
        parsed = self._parse({"status_code": answer.status, "headers": answer.headers, "body": body}, shape)
        raise ClientError(parsed, "GetObject")


def _stop_placeholder(request: Any, **_: Any) -> None:
    if getattr(_building, "is_on", False):
        raise _BuiltError(request)


def _facts(headers: Mapping[str, str]) -> dict[str, Any]:
    """Return what a head says of an object, by the names that boto3 gives it."""
    facts: dict[str, Any] = {ours: headers[name] for name, ours in _FACTS.items() if name in headers}
    if (length := headers.get("content-length", "")).isdigit():
        facts["ContentLength"] = int(length)
    if modified := headers.get("last-modified"):
        try:
            facts["LastModified"] = parsedate_to_datetime(modified)
        except ValueError:
            facts["LastModified"] = read_time(modified)
    return facts


def _raise(handle: pycurl.Curl, error: pycurl.error, url: str, answer: _Answer) -> NoReturn:
    """Raise botocore's error for one of libcurl's."""
    code, text = error.args
    address = f"{urlsplit(url).scheme}://{urlsplit(url).netloc}"
    if code in _UNREACHABLE:
        raise EndpointConnectionError(endpoint_url=address) from None
    if code == pycurl.E_OPERATION_TIMEDOUT:
        is_connected = handle.getinfo(pycurl.PRETRANSFER_TIME) > 0
        raise (ReadTimeoutError if is_connected else ConnectTimeoutError)(endpoint_url=address) from None
    if code in _ENDED:
        raise ConnectionClosedError(endpoint_url=address) from None
    if code == pycurl.E_PARTIAL_FILE:
        wanted = answer.facts.get("ContentLength", 0)
        raise IncompleteReadError(actual_bytes=sum(map(len, answer.parts)), expected_bytes=wanted) from None
    if code in _UNTRUSTED:
        raise SSLError(endpoint_url=address, error=text) from None
    raise HTTPClientError(error=text) from None


def _proxy(url: str) -> str:
    """Return the proxy that boto3 would use; empty: none."""
    from botocore.utils import get_environ_proxies  # noqa: PLC0415 - as in `dpiqa.objects.aws`

    proxies: Mapping[str, str] = get_environ_proxies(url)
    return proxies.get(urlsplit(url).scheme) or proxies.get("all", "")


def _certificates(session: "Session") -> str:
    """Return the file or folder of the certificates that boto3 would trust."""
    from botocore.httpsession import get_cert_path  # noqa: PLC0415 - as in `dpiqa.objects.aws`

    chosen: Any = session._session.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")
    return str(get_cert_path(chosen or True))


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _ignore(_: bytes) -> None:
    """Take nothing: of a handle that is not in use."""
