"""The message broker: connections to Redis and Valkey, their errors as ours, and a check that no message is evicted."""

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from dpiqa.broker_url import BrokerKind, BrokerUrl
from dpiqa.errors import BrokerRefuses, BrokerUnavailable, ConfigurationError, DpiqaError
from dpiqa.text import reason_of

_PROBE_SECONDS = 2  #: for a port to show whether it speaks TLS
_ANSWER_SECONDS = 5  #: for Redis to connect, and to answer
_PROBE_KEY = "dpiqa.probe"  #: a list that never exists
_REFUSAL_HINT = "free memory or disk space of Redis, or point DPIQA_BROKER_URL at the primary"
#: Options of the URL that redis-py takes as they are; Celery gets them too.
CLIENT_OPTIONS = frozenset(
    {
        "client_name",
        "socket_timeout",
        "socket_connect_timeout",
        "socket_keepalive",
        "health_check_interval",
        "retry_on_timeout",
        "max_connections",
    }
)
#: Starts of errors that waiting does not correct.
_FINAL = ("NOPERM", "WRONGPASS", "DENIED", "ERR DB index", "DB index", "invalid DB index")


@dataclass(frozen=True, slots=True)
class BrokerInfo:
    """Facts about a running Redis or Valkey server. `?` where its user may not run INFO."""

    product: str  #: `Redis` or `Valkey`
    version: str
    max_memory: int  #: bytes; 0 is unlimited
    eviction_policy: str  #: `maxmemory-policy` of the configuration
    mode: str = "standalone"  #: `standalone`, `cluster` or `sentinel`


def connect(url: BrokerUrl, **options: Any) -> "redis.Redis":
    """Return a client of the Redis or Valkey server, with redis-py's `options`; it connects when it is first used.

    It tries once: callers know better whether to try again than redis-py, which would wait for seconds.
    Raises `ConfigurationError` for files of the URL that cannot be read.
    """
    require_files(url)
    options = {name: value for name, value in url.options.items() if name in CLIENT_OPTIONS} | options
    options |= {"retry": Retry(NoBackoff(), 0), "db": url.database, "username": url.username, "password": url.password}
    if url.tls is not None:
        options |= {"ssl": True, **url.tls}
    if url.kind is BrokerKind.SENTINEL:
        sentinel: Any = make_sentinel(url, **options)
        client: redis.Redis = sentinel.master_for(url.options["master_name"])
        return client
    if url.socket_path is not None:
        return redis.Redis(unix_socket_path=url.socket_path, **options)
    ((host, port),) = url.hosts
    return redis.Redis(host=host, port=port, **options)


def make_sentinel(url: BrokerUrl, **options: Any) -> "Sentinel":
    """Return the client of the Sentinels; `options` are those of connections to the master."""
    shared = {name: options[name] for name in options if name.startswith(("ssl", "socket_", "retry"))}
    login = {
        "username": url.options.get("sentinel_username"),
        "password": url.options.get("sentinel_password"),
    }
    return Sentinel(list(url.hosts), sentinel_kwargs=shared | login, **options)  # type: ignore[no-untyped-call]


def require_files(url: BrokerUrl) -> None:
    """Raise `ConfigurationError` unless the certificates and the key that the URL names can be used."""
    if url.tls is None:
        return
    for name in ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"):
        path = url.tls.get(name)
        if path is not None and not Path(path).exists():
            raise ConfigurationError(f"there is no file {path}", hint=f"correct {name} in DPIQA_BROKER_URL")
    try:
        context = ssl.create_default_context(cafile=url.tls.get("ssl_ca_certs"), capath=url.tls.get("ssl_ca_path"))
        if certificate := url.tls.get("ssl_certfile"):
            context.load_cert_chain(certificate, url.tls.get("ssl_keyfile"), lambda: url.tls.get("ssl_password", ""))
        context.set_ciphers(url.tls.get("ssl_ciphers", "DEFAULT"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"the certificates or the key of the broker cannot be used: {reason_of(error)}",
            hint="correct the parameters ssl_... in DPIQA_BROKER_URL",
        ) from None


def read_broker(url: BrokerUrl) -> BrokerInfo:
    """Ask a Redis or Valkey server about itself. Raises `BrokerUnavailable`, `ConfigurationError`."""
    timeouts = {"socket_timeout": _ANSWER_SECONDS, "socket_connect_timeout": _ANSWER_SECONDS}
    try:
        with connect(url, **timeouts) as client:
            client.ping()
            info: Any = _info(client)
    except (redis.RedisError, OSError, ValueError) as error:
        raise _wrong_scheme(url, error) or broker_error(error) from None
    return BrokerInfo(
        product="Valkey" if "valkey_version" in info else "Redis",
        version=str(info.get("valkey_version") or info.get("redis_version", "?")),
        max_memory=int(info.get("maxmemory", 0)),
        eviction_policy=str(info.get("maxmemory_policy", "?")),
        mode=str(info.get("server_mode") or info.get("redis_mode", "standalone")),
    )


def _wrong_scheme(url: BrokerUrl, error: Exception) -> ConfigurationError | None:
    """Return an error if the server answers with TLS where the URL has none, or the reverse; no secret is sent.

    Redis waits for the rest of what it takes for a command when TLS begins, so a time-out is all that the client sees.
    """
    is_cut = isinstance(error, redis.ConnectionError | redis.TimeoutError) and "refused" not in str(error)
    if not is_cut or isinstance(error, redis.AuthenticationError) or url.kind is not BrokerKind.REDIS or not url.hosts:
        return None
    try:
        with socket.create_connection(url.hosts[0], _PROBE_SECONDS) as sock:
            if url.tls is not None:
                sock.sendall(b"PING\r\n")
                found, hint = sock.recv(1) in {b"+", b"-"}, "write redis:// in DPIQA_BROKER_URL, or correct the port"
            else:
                with ssl._create_unverified_context().wrap_socket(sock):  # noqa: S323 - it only asks for TLS
                    found, hint = True, "write rediss:// in DPIQA_BROKER_URL"
    except OSError:
        return None
    protocol = "does not speak TLS" if url.tls is not None else "speaks TLS"
    return ConfigurationError(f"the broker {protocol} on this port", hint=hint) if found else None


def _info(client: "redis.Redis") -> Any:
    """Return INFO; nothing where an access list or a hosted service forbids it."""
    try:
        return client.info()
    except redis.ResponseError as error:
        if isinstance(error, redis.exceptions.NoPermissionError) or "unknown command" in str(error).lower():
            return {}
        raise


def require_no_eviction(url: BrokerUrl) -> BrokerInfo:
    """Return facts about the broker; raise `ConfigurationError` when it may drop queued messages, or is a cluster.

    Raises `BrokerUnavailable` when it does not answer. `url.is_redis` must hold.
    """
    info = read_broker(url)
    if info.mode == "cluster":
        raise ConfigurationError(
            f"this {info.product} is a cluster, which keeps the queues on different servers",
            hint="use one server, or Sentinel (sentinel://)",
        )
    if info.mode == "sentinel":
        raise ConfigurationError(
            f"this {info.product} is a Sentinel",
            hint="write sentinel://host:26379/0?master_name=mymaster in DPIQA_BROKER_URL",
        )
    if info.max_memory and info.eviction_policy != "noeviction":
        raise ConfigurationError(
            f"this {info.product} evicts queued messages when it is full (maxmemory-policy {info.eviction_policy})",
            hint="set maxmemory-policy noeviction, or use a Redis of its own",
        )
    return info


def require_storage(url: BrokerUrl) -> None:
    """Raise `BrokerRefuses` while Redis stores no messages, or would drop stored ones; `url.is_redis` must hold.

    Its words name no host: callers of the API may read them. Raises `BrokerUnavailable` when it does not answer.
    """
    info = read_broker(url)
    if info.max_memory and info.eviction_policy not in {"noeviction", "?"}:
        raise BrokerRefuses(
            f"the message broker evicts messages when it is full (maxmemory-policy {info.eviction_policy})",
            hint="set maxmemory-policy noeviction, or use a Redis of its own",
        )
    timeouts = {"socket_timeout": _ANSWER_SECONDS, "socket_connect_timeout": _ANSWER_SECONDS}
    try:
        with connect(url, **timeouts) as client:
            client.lpushx(_PROBE_KEY, "")  # a write for which memory is needed, and which changes nothing
    except redis.exceptions.NoPermissionError:
        return  # an access list that names our keys only; whether writes work is not known then
    except (redis.exceptions.OutOfMemoryError, redis.exceptions.ReadOnlyError) as error:
        raise BrokerRefuses(_refusal(error), hint=_REFUSAL_HINT) from None
    except redis.ResponseError as error:
        if str(error).startswith("MISCONF"):
            raise BrokerRefuses(_refusal(error), hint=_REFUSAL_HINT) from None
        raise broker_error(error) from None
    except (redis.RedisError, OSError, ValueError) as error:
        raise broker_error(error) from None


def _refusal(error: Exception) -> str:
    return f"the message broker stores no messages: {reason_of(error)}"


def broker_error(error: Exception) -> DpiqaError:
    """Return our error for an error of redis-py or of its connection.

    `ConfigurationError` where waiting does not help: the login, the rights, the certificate or the database is wrong.
    """
    reason = reason_of(error)
    if isinstance(error, redis.exceptions.NoPermissionError):
        return ConfigurationError(
            f"the broker's user lacks a right: {reason}", hint="docs/brokers.md has the access list that dpiqa needs"
        )
    if isinstance(error, redis.AuthenticationError) or reason.startswith(_FINAL):
        return ConfigurationError(f"the broker refused this process: {reason}", hint="correct DPIQA_BROKER_URL")
    if (tls := tls_error(error)) is not None:
        return tls
    return broker_unavailable(error)


def tls_error(error: BaseException) -> ConfigurationError | None:
    """Return our error for a certificate that is not trusted, or a server without TLS; None for other errors."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return ConfigurationError(
            f"the certificate of the broker was refused: {cause.verify_message}",
            hint="name its authority with ?ssl_ca_certs=/path/ca.pem in DPIQA_BROKER_URL",
        )
    if isinstance(cause, ssl.SSLError) and cause.reason in {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"}:
        return ConfigurationError(
            "the broker does not speak TLS on this port", hint="correct the scheme or the port in DPIQA_BROKER_URL"
        )
    return None


def broker_unavailable(error: Exception) -> BrokerUnavailable:
    """Return the error of a broker that cannot be reached, with the first line of the vendor's text."""
    return BrokerUnavailable(
        f"the broker does not answer: {reason_of(error)}", hint="start the broker, or correct DPIQA_BROKER_URL"
    )
