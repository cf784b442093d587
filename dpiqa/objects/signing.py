"""AWS Signature Version 4 of a GET: what botocore's `S3SigV4Auth` writes, at an eighth of its processor time.

botocore builds an object of a request, and keys that hold for a day, for every signature. Tests compare both.
"""

import hmac
import time
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials

_ALGORITHM = "AWS4-HMAC-SHA256"
_EMPTY = sha256(b"").hexdigest()  #: digest of the body of a GET
_DEFAULT_PORTS = {"http": 80, "https": 443}
#: Headers that proxies change, which botocore does not sign.
_UNSIGNED = frozenset({"expect", "transfer-encoding", "user-agent", "x-amzn-trace-id"})


def signed(
    url: str,
    headers: Mapping[str, str],
    credentials: "ReadOnlyCredentials",
    scope: tuple[str, str],
    at: float | None = None,
) -> dict[str, str]:
    """Return the headers of a GET with those that sign it.

    Args:
        url: With the key and the query quoted as they are sent.
        headers: Of the request, each name once; libcurl writes `Host`.
        credentials: Keys of the account.
        scope: Region and service that the signature names.
        at: Seconds since the epoch; None: now.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))
    token = {"X-Amz-Security-Token": credentials.token} if credentials.token else {}
    sent = {**headers, "X-Amz-Date": stamp, **token, "X-Amz-Content-SHA256": _EMPTY}
    base, _, query = url.partition("?")
    scheme, _, rest = base.partition("://")
    netloc, slash, path = rest.partition("/")
    named = {name.lower(): " ".join(value.split()) for name, value in sent.items()}
    named["host"] = _host(f"{scheme}://{netloc}")
    names = sorted(named.keys() - _UNSIGNED)
    head = "".join(f"{name}:{named[name]}\n" for name in names)
    of_names = ";".join(names)
    request = f"GET\n{slash}{path}\n{query}\n{head}\n{of_names}\n{_EMPTY}"
    place = f"{stamp[:8]}/{scope[0]}/{scope[1]}/aws4_request"
    text = f"{_ALGORITHM}\n{stamp}\n{place}\n{sha256(request.encode()).hexdigest()}"
    signature = hmac.digest(_key(credentials.secret_key, stamp[:8], *scope), text.encode(), "sha256").hex()
    credential = f"{credentials.access_key}/{place}"
    sent["Authorization"] = f"{_ALGORITHM} Credential={credential}, SignedHeaders={of_names}, Signature={signature}"
    return sent


@lru_cache(maxsize=64)
def _key(secret: str | None, day: str, region: str, service: str) -> bytes:
    """Return the key that signs all requests of a day."""
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


@lru_cache(maxsize=1000)
def _host(origin: str) -> str:
    """Return the header `Host` of a scheme and a network location: without a port that is the scheme's own."""
    parts = urlsplit(origin)
    host = parts.hostname or ""
    name = f"[{host}]" if ":" in host else host
    return name if parts.port in (None, _DEFAULT_PORTS.get(parts.scheme)) else f"{name}:{parts.port}"
