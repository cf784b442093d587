"""Who may call: an API key off loopback, and on loopback only callers that are not some web page.

A service on loopback without a key is open to every program of the machine, the browser included. Web pages are
kept out by two checks: the `Host` must be a loopback name (a rebound DNS name is not), and a request that a browser
marks as coming from another site is refused.
"""

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from dpiqa.errors import ConfigurationError

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
#: Paths that answer without a key: probes, and the description of the service, which holds nothing of its data.
OPEN_PATHS = frozenset({"/", "/healthz", "/readyz", "/openapi.json", "/docs"})
_OPEN_PREFIX = "/docs/"  #: assets of the documentation page
_METRICS = "/metrics"


def is_loopback(host: str) -> bool:
    """Say whether a server bound to `host` can be reached from this machine only."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Access:
    """The rules of one running service."""

    loopback: bool
    key_digest: bytes | None = field(repr=False)  #: SHA-256 of the API key; None: no key is asked for
    hosts: frozenset[str]  #: names a `Host` header may carry; empty: any

    @classmethod
    def of(cls, host: str, key: str | None, extra_hosts: Iterable[str] = ()) -> "Access":
        """Decide the rules for a server bound to `host`.

        Raises `ConfigurationError` when others could reach it and no key is set.
        """
        loopback = is_loopback(host)
        if not key and not loopback:
            raise ConfigurationError(
                f"the API would listen on {host}, which other machines can reach, without an API key",
                hint="set DPIQA_API_KEY, or bind it to 127.0.0.1",
            )
        hosts = LOOPBACK_HOSTS | {name.lower() for name in extra_hosts} if not key else frozenset()
        return cls(loopback, _digest(key) if key else None, frozenset(hosts))

    def admits_host(self, headers: Headers) -> bool:
        """Say whether the `Host` header names this service."""
        return not self.hosts or _hostname(f"//{headers.get('host', '')}") in self.hosts

    def admits_origin(self, headers: Headers) -> bool:
        """Say whether the request does not come from a web page of another site."""
        if not self.hosts:
            return True  # with a key, a foreign page has nothing to send
        if headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
            return False
        origin = headers.get("origin")
        return origin is None or _hostname(origin) in self.hosts

    def admits_key(self, path: str, headers: Headers) -> bool:
        """Say whether the request carries the key, or asks for something that needs none."""
        if self.key_digest is None or path in OPEN_PATHS or path.startswith(_OPEN_PREFIX):
            return True
        if path == _METRICS and self.loopback:
            return True
        return hmac.compare_digest(_digest(_given_key(headers)), self.key_digest)


def _given_key(headers: Headers) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _hostname(url: str) -> str | None:
    """Return the lower-case host of a URL, without port and brackets; None where there is none."""
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
