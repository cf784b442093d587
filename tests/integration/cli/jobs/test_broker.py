"""A broker that will never serve is refused before anything is stored; one that is down is waited for."""

import json

import pytest
import redis
from support.photos import png


@pytest.fixture
def small(valkey_server, broker_url):
    """A broker that may evict."""
    with redis.Redis.from_url(broker_url) as client:
        client.config_set("maxmemory", 512 * 1024 * 1024)
        client.config_set("maxmemory-policy", "allkeys-lru")
        yield broker_url
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 0)


def jobs(run):
    return json.loads(run("jobs", "--json").stdout)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda url: url.replace("redis://:", "redis://:no-"), "refused this process"),
        (lambda url: url.replace("redis://:", "redis://nobody:"), "refused this process"),
        (lambda url: url.replace("/0", "/9999"), "refused this process"),
        (lambda url: url.replace("redis://", "rediss://"), "does not speak TLS"),
        (lambda url: url.replace("redis://", "redis+cluster://"), "Redis Cluster"),
    ],
)
def test_what_will_never_work_is_refused_before_the_job_is_stored(
    run, system, monkeypatch, valkey_server, change, says
):
    system.put("in/a.png", png(0.1))
    good = valkey_server.url
    monkeypatch.setenv("DPIQA_BROKER_URL", change(good))
    result = run("submit", f"s3://{system.name}/in/")
    assert result.exit_code == 78
    assert says in result.stderr
    assert valkey_server.password not in result.stderr
    monkeypatch.setenv("DPIQA_BROKER_URL", good)
    assert jobs(run) == []


def test_a_broker_that_evicts_is_refused(run, system, small):
    result = run("submit", f"s3://{system.name}/in/")
    assert result.exit_code == 78
    assert "evicts" in result.stderr
    assert jobs(run) == []


def test_a_broker_that_is_down_delays_the_job(run, system, monkeypatch):
    system.put("in/a.png", png(0.1))
    monkeypatch.setenv("DPIQA_BROKER_URL", "redis://127.0.0.1:1/0")
    result = run("submit", f"s3://{system.name}/in/")
    assert result.exit_code == 0
    assert "the job is recorded" in result.stderr
    assert len(jobs(run)) == 1
