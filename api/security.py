"""Rules of one running service: a key off loopback, and on loopback without one only programs, not web pages.

A service on loopback without a key is open to every program of the machine, the browser included. Web pages are
kept out by two checks: the `Host` must be a loopback name (a rebound DNS name is not), and a request that a browser
marks as coming from another site is refused unless its method is GET, HEAD or OPTIONS.

Starlette's `TrustedHostMiddleware` does not replace the first check: it answers in plain text, not with a problem, and
the second check needs the same list of names.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from dpiqa.access import digest_of
from dpiqa.errors import ConfigurationError

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
#: Paths that answer without a key: probes, and the description of the service, which holds nothing of its data.
OPEN_PATHS = frozenset({"/healthz", "/readyz", "/openapi.json", "/docs", "/login"})
_OPEN_PREFIXES = ("/docs/", "/assets/")  #: assets of the documentation page, and of the pages
#: First parts of the paths of pages, which answer with HTML.
_PAGES = frozenset({"login", "logout", "jobs", "scores", "image", "thumbnail", "requirements", "threshold", "compare"})
_METRICS = "/metrics"


def is_loopback(host: str) -> bool:
    """Return whether a server bound to `host` can be reached from this machine only."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Rules:
    """The rules of one running service."""

    loopback: bool
    requires_key: bool
    key_digest: bytes | None = field(repr=False)  #: SHA-256 of the bootstrap key; None: there is none
    hosts: frozenset[str]  #: names a `Host` header may carry; empty: any
    origins: frozenset[str] = frozenset()  #: of web pages that may call it all the same

    @classmethod
    def of(
        cls,
        host: str,
        key: str | None,
        extra_hosts: Iterable[str] = (),
        *,
        require_key: bool = False,
        origins: Iterable[str] = (),
    ) -> "Rules":
        """Decide the rules for a server bound to `host`. `require_key`: stored keys are demanded, whatever `key` is.

        Raises `ConfigurationError` when others could reach it and no key is demanded.
        """
        loopback, requires_key = is_loopback(host), bool(key) or require_key
        if not requires_key and not loopback:
            raise ConfigurationError(
                f"the API would listen on {host}, which other machines can reach, without an API key",
                hint="set DPIQA_API_KEY, or DPIQA_REQUIRE_KEY=true after `dpiqa keys create`, or bind it to 127.0.0.1",
            )
        if "*" in origins and not requires_key:
            raise ConfigurationError(
                "the pages of every web site could call the API, which demands no key",
                hint="name the origins in DPIQA_API_CORS_ORIGINS, or set DPIQA_API_KEY",
            )
        hosts = frozenset() if requires_key else LOOPBACK_HOSTS | {name.lower() for name in extra_hosts}
        return cls(loopback, requires_key, digest_of(key) if key else None, frozenset(hosts), frozenset(origins))

    def admits_host(self, headers: Headers) -> bool:
        """Return whether the `Host` header names this service."""
        return not self.hosts or _hostname(f"//{headers.get('host', '')}") in self.hosts

    def admits_origin(self, headers: Headers) -> bool:
        """Return whether the request does not come from a web page of another site."""
        if not self.hosts:
            return True  # a page of another site does not have the key
        if headers.get("origin") in self.origins:
            return True
        if headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
            return False
        origin = headers.get("origin")
        return origin is None or _hostname(origin) in self.hosts

    def is_open(self, path: str) -> bool:
        """Return whether a path answers without a key."""
        if path in OPEN_PATHS or path.startswith(_OPEN_PREFIXES):
            return True
        return path == _METRICS and self.loopback


def is_page(path: str) -> bool:
    """Return whether a path is one of the pages for people."""
    return path == "/" or path.split("/")[1] in _PAGES


def is_same_origin(headers: Headers) -> bool:
    """Return whether a request comes from a page of this service, as a browser says."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = urlsplit(headers.get("origin", "")).netloc.lower()
    return bool(origin) and origin == headers.get("host", "").lower()


def _hostname(url: str) -> str | None:
    """Return the lower-case host of a URL, without port and brackets; None where there is none."""
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
