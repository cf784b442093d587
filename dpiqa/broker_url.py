"""Broker URLs: the one reader of `DPIQA_BROKER_URL`, for every process. Pure.

No message names a part of the URL that may belong to a password.
"""

import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote


class BrokerKind(StrEnum):
    """Kind of broker."""

    REDIS = "redis"  #: one Redis or Valkey server: TCP, TLS or a Unix socket
    SENTINEL = "sentinel"  #: Redis or Valkey servers, of which Sentinels name the master
    RABBITMQ = "rabbitmq"
    SQS = "sqs"


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerUrl:
    """A broker URL in its parts."""

    kind: BrokerKind
    scheme: str  #: as it is shown: `redis`, `rediss`, `redis+socket`, `sentinel`, `amqp`, `amqps` or `sqs`
    hosts: tuple[tuple[str, int], ...] = ()  #: one, or that of each Sentinel; none: a Unix socket, or SQS of AWS
    username: str | None = None  #: for SQS, the access key id
    password: str | None = field(default=None, repr=False)  #: for SQS, the secret access key
    socket_path: str | None = None
    database: int = 0  #: of Redis
    virtual_host: str = "/"  #: of RabbitMQ
    #: Arguments of redis-py (`ssl_cert_reqs`, `ssl_ca_certs`, ...); None: no TLS.
    tls: Mapping[str, Any] | None = field(default=None, repr=False)
    #: Other parameters of the URL, typed; see `_OPTIONS`.
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def is_redis(self) -> bool:
        """True where Redis or Valkey answers."""
        return self.kind in {BrokerKind.REDIS, BrokerKind.SENTINEL}

    @property
    def address(self) -> str:
        """The URL without user name, password and parameters, but with the name of a Sentinel's master."""
        if self.socket_path is not None:
            return f"{self.scheme}://{quote(self.socket_path)}?virtual_host={self.database}"
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        match self.kind:
            case BrokerKind.SQS:
                return f"{self.scheme}://{hosts}"
            case BrokerKind.RABBITMQ:
                return f"{self.scheme}://{hosts}/{quote(self.virtual_host, safe='')}"
            case BrokerKind.SENTINEL:
                return f"{self.scheme}://{hosts}/{self.database}?master_name={self.options['master_name']}"
            case BrokerKind.REDIS:
                return f"{self.scheme}://{hosts}/{self.database}"

    def __str__(self) -> str:
        """Return the address, with the user name and `***` for the password where the URL has them."""
        if self.username is None and self.password is None:
            return self.address
        scheme, _, rest = self.address.partition("://")
        password = "" if self.password is None else ":***"
        return f"{scheme}://{quote(self.username or '', safe='')}{password}@{rest}"


#: Scheme -> kind, scheme that is shown, default port (None: a Unix socket), whether it means TLS.
_SCHEMES: dict[str, tuple[BrokerKind, str, int | None, bool]] = {
    "redis": (BrokerKind.REDIS, "redis", 6379, False),
    "valkey": (BrokerKind.REDIS, "redis", 6379, False),
    "rediss": (BrokerKind.REDIS, "rediss", 6379, True),
    "valkeys": (BrokerKind.REDIS, "rediss", 6379, True),
    "unix": (BrokerKind.REDIS, "redis+socket", None, False),
    "redis+socket": (BrokerKind.REDIS, "redis+socket", None, False),
    "valkey+socket": (BrokerKind.REDIS, "redis+socket", None, False),
    "sentinel": (BrokerKind.SENTINEL, "sentinel", 26379, False),
    "sentinels": (BrokerKind.SENTINEL, "sentinels", 26379, True),
    "amqp": (BrokerKind.RABBITMQ, "amqp", 5672, False),
    "pyamqp": (BrokerKind.RABBITMQ, "amqp", 5672, False),
    "amqps": (BrokerKind.RABBITMQ, "amqps", 5671, True),
    "sqs": (BrokerKind.SQS, "sqs", 443, False),
}
_KNOWN = "redis, rediss, valkey, valkeys, redis+socket, unix, sentinel, sentinels, amqp, amqps and sqs"
_ENCODE = "write / ? # @ and % in user names, passwords and parameters percent-encoded, as %2F %3F %23 %40 %25"


def read_broker_url(text: str) -> BrokerUrl:
    """Return the parts of a broker URL. Raises `ValueError` for one that cannot work, without any secret in it."""
    scheme, separator, rest = text.strip().partition("://")
    scheme = scheme.lower()
    if not separator:
        raise ValueError("is not a URL; it looks like redis://:password@host:6379/0")
    if "cluster" in scheme:
        raise ValueError(
            "names a Redis Cluster, which is not supported: a worker waits for several queues with one command, and a "
            "cluster keeps them on different servers. Use one server, or Sentinel (sentinel://)"
        )
    if scheme not in _SCHEMES:
        raise ValueError(f"has a scheme that is not supported; the schemes are {_KNOWN}")
    kind, shown, port, is_tls = _SCHEMES[scheme]
    if re.search(r"[\s\x00-\x1f\x7f]", rest):
        raise ValueError("contains a space or a control character; write it percent-encoded, a space as %20")
    userinfo, hosts, path, query = _split(rest, scheme)
    options = _parameters(query, kind)
    username, password = _credentials(userinfo, options, kind)
    parts: dict[str, Any] = {"kind": kind, "scheme": shown, "username": username, "password": password}
    if port is None:
        parts["socket_path"] = _socket_path(hosts, path)
        parts["database"] = _database("", options)
    elif kind is not BrokerKind.SQS or hosts:
        secure_port = 443 if options.get("is_secure", True) else 80
        parts["hosts"] = _hosts(
            hosts, secure_port if kind is BrokerKind.SQS else port, several=kind is BrokerKind.SENTINEL
        )
    if kind is BrokerKind.RABBITMQ:
        parts["virtual_host"] = _unquote(path.removeprefix("/")) or "/"
    elif port is not None and kind is not BrokerKind.SQS:
        parts["database"] = _database(path, options)
    elif kind is BrokerKind.SQS and path.strip("/"):
        raise ValueError("has a path, which SQS does not use; a prefix of queue names is ?queue_name_prefix=dpiqa-")
    return BrokerUrl(**parts, tls=_tls(options, scheme, is_tls=is_tls), options=options)


def _split(rest: str, scheme: str) -> tuple[str | None, str, str, str]:
    """Split what follows `://` into user info (None: without), hosts, path and query."""
    first, *others = re.split(rf";{re.escape(scheme)}://", rest)
    if (";" in rest and "://" in rest) and not (others and scheme.startswith("sentinel")):
        raise ValueError("names several brokers; write one, or the Sentinels that know which server is the master")
    *before, last = [first, *others]
    authority, tail = _authority(last)
    if any("/" in part.rstrip("/") or "?" in part for part in before):
        raise ValueError("has a path or parameters after a Sentinel that is not the last; write them once, at the end")
    authorities = [*(part.rstrip("/") for part in before), authority]
    userinfos = {part.rpartition("@")[0] for part in authorities if "@" in part}
    if len(userinfos) > 1:
        raise ValueError("has several user names or passwords; all Sentinels lead to one server, which has one login")
    path, _, query = tail.partition("?")
    hosts = ",".join(part.rpartition("@")[2] for part in authorities)
    return next(iter(userinfos), None), hosts, path, query


def _authority(text: str) -> tuple[str, str]:
    """Split into user info with hosts, and path with query."""
    end = min((text.find(mark) for mark in "/?#" if mark in text), default=len(text))
    authority, tail = text[:end], text[end:]
    if "@" in tail or "#" in tail:
        raise ValueError(f"cannot be read; {_ENCODE}")
    return authority, tail


def _unquote(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("is percent-encoded, but not in UTF-8") from None


def _credentials(userinfo: str | None, options: dict[str, Any], kind: BrokerKind) -> tuple[str | None, str | None]:
    """Return user name and password; both may stand in the query, as redis-py has it."""
    query = options.pop("username", None), options.pop("password", None)
    if userinfo is None:
        return query
    if query != (None, None):
        raise ValueError("has a user name or password twice, before the @ and as a parameter; write them once")
    user, separator, password = userinfo.partition(":")
    if user and not separator:
        raise ValueError("has a user name and no password; a password alone is written redis://:password@host")
    if kind is BrokerKind.SQS and not (user and password):
        raise ValueError("has only one of access key id and secret; without both, the AWS credentials chain is used")
    return (_unquote(user) or None), (_unquote(password) if separator else None)


def _hosts(text: str, default_port: int, *, several: bool) -> tuple[tuple[str, int], ...]:
    names = text.split(",")
    if len(names) > 1 and not several:
        raise ValueError("names several hosts; only sentinel:// takes several, those of the Sentinels")
    return tuple(_host(name, default_port) for name in names)


def _host(text: str, default_port: int) -> tuple[str, int]:
    if text.count(":") > 1 and not text.startswith("["):
        raise ValueError(
            "has an IPv6 address without brackets, or a password without its @; write redis://[::1]:6379/0"
        )
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.%]+\]|[\w.\-]*)(?::([0-9]*))?", text)
    if found is None:
        raise ValueError("has a host or a port that cannot be read; it looks like redis://:password@host:6379/0")
    port = int(found[2] or default_port)
    if not 1 <= port <= 65535:
        raise ValueError("has a port that is not between 1 and 65535")
    return _unquote(found[1].strip("[]")) or "localhost", port


def _socket_path(hosts: str, path: str) -> str:
    if hosts or not path.strip("/"):
        raise ValueError(
            "names no socket; write the absolute path after three slashes: redis+socket:///run/valkey.sock"
        )
    return _unquote(path)


def _database(path: str, options: dict[str, Any]) -> int:
    """Return the number of the database, from the path or a parameter; 0 by default."""
    given = {value for value in (path.strip("/"), options.pop("db", ""), options.pop("virtual_host", "")) if value}
    if len(given) > 1:
        raise ValueError("names two databases")
    number = next(iter(given), "0")
    if not re.fullmatch(r"[0-9]{1,6}", number):
        raise ValueError("names a database that is not a number; it looks like redis://:password@host:6379/0")
    return int(number)


def _parameters(query: str, kind: BrokerKind) -> dict[str, Any]:
    """Return the parameters of the query, typed. Raises `ValueError` that names one, and never its value."""
    allowed = _OPTIONS[kind]
    options: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True, errors="strict"):
        if name == "ssl" and kind is not BrokerKind.SQS:
            raise ValueError("has the parameter ssl; TLS is chosen by the scheme: rediss, valkeys, sentinels or amqps")
        if name not in allowed:
            raise ValueError(f"has the unknown parameter {name[:40]!r}; known are {', '.join(sorted(allowed))}")
        if name in options:
            raise ValueError(f"has the parameter {name} twice")
        try:
            options[name] = allowed[name](value)
        except (ValueError, KeyError):
            raise ValueError(f"has a wrong value of the parameter {name}; it is {_MEANINGS[allowed[name]]}") from None
    if kind is BrokerKind.SENTINEL and "master_name" not in options:
        raise ValueError("does not name the master; it looks like sentinel://host1,host2,host3/0?master_name=mymaster")
    return options


def _tls(options: dict[str, Any], scheme: str, *, is_tls: bool) -> dict[str, Any] | None:
    """Take the parameters of TLS out of the options. The certificate is verified unless the URL says otherwise."""
    given = {name: options.pop(name) for name in list(options) if name.startswith("ssl_")}
    if not is_tls:
        if given:
            secure = {"sentinel": "sentinels", "amqp": "amqps", "pyamqp": "amqps"}.get(scheme, "rediss")
            raise ValueError(f"has the parameter {min(given)}, but no TLS; write {secure}://")
        return None
    if "ssl_keyfile" in given and "ssl_certfile" not in given:
        raise ValueError("has the parameter ssl_keyfile without ssl_certfile")
    verified = given.get("ssl_cert_reqs", "required") != "none"
    if not verified and given.get("ssl_check_hostname"):
        raise ValueError("wants the host name checked (ssl_check_hostname), but no certificate (ssl_cert_reqs=none)")
    return {"ssl_cert_reqs": "required", "ssl_check_hostname": verified} | given


def _text(value: str) -> str:
    if not value:
        raise ValueError
    return value


def _path(value: str) -> str:
    path = Path(value).expanduser()
    if not path.is_absolute():  # processes have other working folders
        raise ValueError
    return str(path)


def _boolean(value: str) -> bool:
    return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[value.lower()]


def _positive(value: str) -> float:
    if not 0 < (number := float(value)) < 1e6:
        raise ValueError
    return number


def _whole(value: str) -> int:
    if not 0 <= (number := int(value)) <= 10**6:
        raise ValueError
    return number


def _verification(value: str) -> str:
    return {"required": "required", "optional": "optional", "none": "none"}[value.lower().removeprefix("cert_")]


def _tls_version(value: str) -> ssl.TLSVersion:
    return {"tlsv1.2": ssl.TLSVersion.TLSv1_2, "tlsv1.3": ssl.TLSVersion.TLSv1_3}[value.lower()]


_MEANINGS: dict[Callable[[str], Any], str] = {
    str: "a number",
    _text: "a text that is not empty",
    _path: "the absolute path of a file",
    _boolean: "true or false",
    _positive: "a number of seconds above 0",
    _whole: "a whole number, 0 or more",
    _verification: "required, optional or none",
    _tls_version: "TLSv1.2 or TLSv1.3",
}
_TLS_OPTIONS: dict[str, Callable[[str], Any]] = {
    "ssl_cert_reqs": _verification,
    "ssl_check_hostname": _boolean,
    "ssl_ca_certs": _path,
    "ssl_certfile": _path,
    "ssl_keyfile": _path,
    "ssl_ciphers": _text,
}
_REDIS_OPTIONS: dict[str, Callable[[str], Any]] = _TLS_OPTIONS | {
    "ssl_ca_path": _path,
    "ssl_password": _text,
    "db": str,
    "virtual_host": str,
    "username": _text,
    "password": _text,
    "ssl_min_version": _tls_version,
    "client_name": _text,
    "socket_timeout": _positive,
    "socket_connect_timeout": _positive,
    "socket_keepalive": _boolean,
    "health_check_interval": _whole,
    "retry_on_timeout": _boolean,
    "max_connections": _whole,
}
#: Parameters of the query, and their types.
_OPTIONS: dict[BrokerKind, dict[str, Callable[[str], Any]]] = {
    BrokerKind.REDIS: _REDIS_OPTIONS,
    BrokerKind.SENTINEL: _REDIS_OPTIONS
    | {"master_name": _text, "sentinel_username": _text, "sentinel_password": _text},
    BrokerKind.RABBITMQ: _TLS_OPTIONS,
    BrokerKind.SQS: {
        "region": _text,
        "queue_name_prefix": _text,
        "is_secure": _boolean,
        "wait_time_seconds": _whole,
    },
}
