"""The message broker, Redis or Valkey: its errors as ours, and a check that it evicts no messages."""

from dataclasses import dataclass
from typing import Any

import redis

from dpiqa.errors import BrokerUnavailable, ConfigurationError, DpiqaError
from dpiqa.text import reason_of

SCHEMES = ("redis://", "rediss://", "unix://")
_ANSWER_SECONDS = 5  #: for Redis to connect, and to answer


@dataclass(frozen=True, slots=True)
class BrokerInfo:
    """Facts about a running broker."""

    product: str  #: `Redis` or `Valkey`
    version: str
    max_memory: int  #: bytes; 0 is unlimited
    eviction_policy: str  #: `maxmemory-policy` of the configuration


def is_redis(broker_url: str) -> bool:
    """Return whether the URL names a broker that this module can check; Celery knows others."""
    return broker_url.startswith(SCHEMES)


def read_broker(broker_url: str) -> BrokerInfo:
    """Ask a Redis or Valkey server about itself. Raises `BrokerUnavailable`, `ConfigurationError`."""
    timeouts = {"socket_timeout": _ANSWER_SECONDS, "socket_connect_timeout": _ANSWER_SECONDS}
    try:
        with redis.Redis.from_url(broker_url, **timeouts) as client:
            info: Any = client.info()
    except (redis.RedisError, OSError, ValueError) as error:
        raise broker_error(error) from None
    return BrokerInfo(
        product="Valkey" if "valkey_version" in info else "Redis",
        version=str(info.get("valkey_version") or info.get("redis_version", "?")),
        max_memory=int(info.get("maxmemory", 0)),
        eviction_policy=str(info.get("maxmemory_policy", "noeviction")),
    )


def require_no_eviction(broker_url: str) -> BrokerInfo:
    """Return facts about the broker; raise `ConfigurationError` when it may drop queued messages.

    Raises `BrokerUnavailable` when it does not answer. The URL must be one of `is_redis`.
    """
    info = read_broker(broker_url)
    if info.max_memory and info.eviction_policy != "noeviction":
        raise ConfigurationError(
            f"this {info.product} evicts queued messages when it is full (maxmemory-policy {info.eviction_policy})",
            hint="set maxmemory-policy noeviction, or use a Redis of its own",
        )
    return info


def broker_error(error: Exception) -> DpiqaError:
    """Return our error for an error of redis-py or of its connection.

    `ConfigurationError` where waiting does not help: the password or the URL is wrong.
    """
    if isinstance(error, redis.AuthenticationError):
        return ConfigurationError(f"the broker refused the login: {error}", hint="correct DPIQA_BROKER_URL")
    if isinstance(error, redis.RedisError | OSError):
        return broker_unavailable(error)
    return ConfigurationError(f"DPIQA_BROKER_URL is wrong: {error}", hint="redis://:password@host:6379/0")


def broker_unavailable(error: Exception) -> BrokerUnavailable:
    """Return the error of a broker that cannot be reached, with the first line of the vendor's text."""
    return BrokerUnavailable(
        f"the broker does not answer: {reason_of(error)}", hint="start Redis or Valkey, or correct DPIQA_BROKER_URL"
    )
