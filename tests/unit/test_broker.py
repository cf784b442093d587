import inspect
import warnings
from types import MappingProxyType

import pytest
import redis
from redis import exceptions as redis_exceptions

from dpiqa import broker
from dpiqa.broker import broker_error, read_broker, require_no_eviction
from dpiqa.broker_url import read_broker_url
from dpiqa.errors import BrokerUnavailable, ConfigurationError

URL = read_broker_url("redis://127.0.0.1:1/0")


class AnsweringRedis:
    """A client of a server whose INFO is known."""

    info_of_server = MappingProxyType({})

    def __init__(self, **options):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def ping(self):
        return True

    def info(self):
        return self.info_of_server


@pytest.mark.parametrize(
    ("info", "is_accepted"),
    [
        ({"maxmemory": 0, "maxmemory_policy": "allkeys-lru"}, True),
        ({"maxmemory": 10, "maxmemory_policy": "noeviction"}, True),
        ({"maxmemory": 10, "maxmemory_policy": "allkeys-lru"}, False),
    ],
)
def test_a_broker_that_may_drop_messages_is_refused(monkeypatch, info, is_accepted):
    monkeypatch.setattr(broker.redis, "Redis", AnsweringRedis)
    monkeypatch.setattr(AnsweringRedis, "info_of_server", info)
    if is_accepted:
        assert require_no_eviction(URL).eviction_policy == info["maxmemory_policy"]
    else:
        with pytest.raises(ConfigurationError, match="allkeys-lru"):
            require_no_eviction(URL)


def test_the_product_and_version_are_named(monkeypatch):
    monkeypatch.setattr(broker.redis, "Redis", AnsweringRedis)
    monkeypatch.setattr(AnsweringRedis, "info_of_server", {"redis_version": "7.2.4", "valkey_version": "9.0.1"})
    info = read_broker(URL)
    assert (info.product, info.version) == ("Valkey", "9.0.1")


def test_every_error_of_redis_is_ours():
    """Errors of its own cluster client are left out: nothing here uses it."""
    classes = [
        error
        for _, error in inspect.getmembers(redis_exceptions, inspect.isclass)
        if issubclass(error, redis.RedisError)
    ]
    assert len(classes) > 20
    for error_class in classes:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ours = broker_error(error_class.__new__(error_class))
        is_refusal = issubclass(error_class, redis.AuthenticationError | redis.exceptions.NoPermissionError)
        assert type(ours) is (ConfigurationError if is_refusal else BrokerUnavailable)
        assert ours.hint
        assert "\n" not in str(ours)


def test_a_closed_port_is_no_wrong_configuration():
    with pytest.raises(BrokerUnavailable):
        read_broker(URL)
