"""Where callbacks may go: checked by the URL when a job is submitted, and by the address at each delivery.

Without a list of hosts, only public addresses over https. The address that was checked is the one that is connected to,
so that a name which resolves to another address a moment later (DNS rebinding) gains nothing.
"""

import re
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from dpiqa.errors import Forbidden, InvalidRequest, Unavailable

MAX_URL = 2000  #: characters
Address = IPv4Address | IPv6Address
#: Never connected to, whatever the settings allow: cloud metadata that is not link-local.
_METADATA = frozenset(
    ip_address(text) for text in ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254")
)
#: Networks with a use of their own that Python's tables, which differ by its version, may count as public.
_SPECIAL = tuple(
    ip_network(text)
    for text in ("192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "100.64.0.0/10", "2001::/23", "2001:db8::/32")
)
_NAME = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")  #: of a host in DNS
_UNICAST = ip_network("2000::/3")  #: all of IPv6 that is given to anybody
#: IPv6 networks that carry an IPv4 address inside: NAT64, 6to4, Teredo, IPv4-compatible; not IPv4-mapped.
_CARRIERS = tuple(ip_network(text) for text in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96"))


@dataclass(frozen=True, slots=True)
class Target:
    """A callback's URL in its parts."""

    scheme: str  #: https, or http to a listed host
    host: str  #: a name in its ASCII form, or an address without brackets
    port: int
    path: str  #: with the query

    @property
    def authority(self) -> str:
        """The value of the `Host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


_PORTS = {"https": 443, "http": 80}


class CallbackRules:
    """The rules of one deployment. `hosts`: names, `*.suffix`, addresses and networks; empty: any public address."""

    def __init__(self, hosts: str = "") -> None:
        """Read the setting. Raises `InvalidRequest` for an entry that is none of these."""
        self._names: set[str] = set()
        self._suffixes: list[str] = []
        self._networks = []
        for entry in hosts.lower().split():
            if entry.startswith("*."):
                self._suffixes.append(entry[1:])
                continue
            try:
                self._networks.append(ip_network(entry.strip("[]"), strict=False))
            except ValueError:
                if "/" in entry or ":" in entry:
                    raise InvalidRequest(
                        f"{entry!r} is not a host", hint="a name, *.name, an address, or a network"
                    ) from None
                self._names.add(entry)
        self._is_list = bool(hosts.split())

    def parse(self, url: str) -> Target:
        """Return the parts of a URL that a callback may go to, as far as the URL tells. Raises `InvalidRequest`."""
        target = _split(url)
        literal = _literal(target.host)
        is_listed = self._lists_name(target.host) or (literal is not None and self._lists_address(literal))
        if self._is_list and not is_listed and not (literal is None and self._networks):
            raise InvalidRequest(f"callbacks may not go to {target.host}", hint="DPIQA_CALLBACK_HOSTS lists the hosts")
        if target.scheme == "http" and not is_listed:
            raise InvalidRequest(
                "a callback's URL begins with https://", hint="http is for hosts of DPIQA_CALLBACK_HOSTS"
            )
        if literal is not None:
            self._require(literal, target.host)
        elif _is_local_name(target.host) and not is_listed:
            raise InvalidRequest(f"{target.host} is not a public host", hint="DPIQA_CALLBACK_HOSTS may list it")
        return target

    def resolve(self, target: Target) -> list[str]:
        """Return the addresses of a target, all of them permitted.

        Raises `Forbidden` where one is not, `Unavailable` for a name that cannot be resolved now.
        """
        try:
            found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise Unavailable(f"{target.host} cannot be resolved") from None
        addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
        for address in addresses:
            try:
                self._require(ip_address(address), target.host)
            except InvalidRequest as error:
                raise Forbidden(error.message, hint=error.hint) from None
        return addresses

    def _require(self, address: Address, host: str) -> None:
        """Raise `InvalidRequest` for an address that must not be connected to."""
        if _is_never(address):
            raise InvalidRequest(f"{host} has an address that is not public", hint="callbacks never go there")
        if not (is_public(address) or self._lists_name(host) or self._lists_address(address)):
            raise InvalidRequest(f"{host} has an address that is not public", hint="DPIQA_CALLBACK_HOSTS may list it")
        if self._is_list and not self._lists_name(host) and not self._lists_address(address):
            raise InvalidRequest(f"callbacks may not go to {host}", hint="DPIQA_CALLBACK_HOSTS lists the hosts")

    def _lists_name(self, host: str) -> bool:
        return host in self._names or any(host.endswith(suffix) for suffix in self._suffixes)

    def _lists_address(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


def is_public(address: Address) -> bool:
    """Return whether an address is one of the public internet, and stands for no other."""
    if not address.is_global or address.is_multicast or address.is_reserved or address in _METADATA:
        return False
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _SPECIAL)
    return address in _UNICAST and not any(address in network for network in _SPECIAL) and not _carries_another(address)


def _is_never(address: Address) -> bool:
    """Return whether an address is refused even where a setting lists its host."""
    is_listed_never = address in _METADATA or address.is_link_local or address.is_multicast or address.is_unspecified
    return is_listed_never or _carries_another(address)


def _carries_another(address: Address) -> bool:
    if isinstance(address, IPv4Address):
        return False
    if address == ip_address("::1"):
        return False
    has_mapped = address.ipv4_mapped is not None or address.scope_id is not None
    return has_mapped or any(address in network for network in _CARRIERS)


def _is_local_name(host: str) -> bool:
    return host == "localhost" or host.endswith((".localhost", ".local"))


def _literal(host: str) -> Address | None:
    """Return the address that a host is written as; None for a name.

    Also the forms that resolvers accept for IPv4: `127.1`, `0x7f000001`, `2130706433`.
    """
    try:
        return ip_address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def _split(url: str) -> Target:
    hint = "write https://host/path, without a user, a password or a fragment"
    if len(url) > MAX_URL or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise InvalidRequest(f"a callback's URL has at most {MAX_URL} printable ASCII characters", hint=hint)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidRequest("the callback is not a URL", hint=hint) from None
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme not in _PORTS or not host or "@" in parts.netloc or parts.fragment or port == 0:
        raise InvalidRequest("the callback is not a URL of a web server", hint=hint)
    if _literal(host) is None and (len(host) > 253 or not _NAME.fullmatch(host)):
        raise InvalidRequest("the callback's host is not the name of a host", hint=hint)
    path = parts.path or "/"
    return Target(parts.scheme, host, port or _PORTS[parts.scheme], f"{path}?{parts.query}" if parts.query else path)


def shown(url: str) -> str:
    """Return scheme and host of a URL: its path and query may hold a secret of the receiver."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{'/...' if parts.path.strip('/') or parts.query else ''}"
