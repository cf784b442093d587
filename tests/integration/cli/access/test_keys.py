"""`dpiqa keys` and `dpiqa audit`: keys as their administrator sees them."""

import json

import pytest
from dpiqa.api.app import create_app
from fastapi.testclient import TestClient
from sqlalchemy import text

from dpiqa.settings import load_settings
from dpiqa.storage.engine import make_engine


@pytest.fixture
def base(monkeypatch, database_url, broker_url):
    monkeypatch.setenv("DPIQA_DATABASE_URL", database_url)
    monkeypatch.setenv("DPIQA_BROKER_URL", broker_url)
    return database_url


def json_of(result):
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def status(key):
    """Return what an API process that starts now answers to a key."""
    app = create_app(load_settings(require_key=True))
    with TestClient(app, raise_server_exceptions=False) as client:
        return client.get("/v1/jobs", headers={"X-API-Key": key}).status_code


def test_a_key_is_shown_once_and_stored_as_its_hash_alone(run, base):
    made = run("keys", "create", "dashboard")
    key = made.stdout.strip()
    assert made.exit_code == 0
    assert key.startswith("dpiqa_")
    assert len(key) == 62
    assert "shown once" in made.stderr
    assert key not in made.stderr
    assert status(key) == 200
    assert status(key[:-1] + ("A" if key[-1] != "A" else "B")) == 401
    engine = make_engine(base)
    with engine.connect() as c:
        rows = c.execute(
            text("SELECT k::text || coalesce((SELECT string_agg(a::text, '') FROM audit a), '') FROM api_keys k")
        )
        assert not any(key[18:] in row for row in rows.scalars())
    engine.dispose()
    (listed,) = json_of(run("keys", "list", "--json"))
    assert (listed["prefix"], listed["scopes"], listed["grants"]) == (key[:18], ["read"], None)
    assert listed["last_used_at"] is not None
    assert key not in run("keys", "list").stdout


def test_rotation_has_two_live_keys_with_the_same_rights(run, base):
    first = json_of(run("keys", "create", "up", "--scope", "submit", "--grant", "s3://photos/a/", "--json"))
    second = json_of(run("keys", "create", "up", "--json"))
    assert (second["scopes"], second["grants"]) == (["submit"], ["s3://photos/a/"])
    third = run("keys", "create", "up")
    assert (third.exit_code, third.stderr.count("\n")) == (2, 1)
    assert "revoke" in third.stderr
    assert run("keys", "revoke", first["id"]).exit_code == 0
    assert [key["id"] for key in json_of(run("keys", "list", "--json"))] == [second["id"]]
    assert status(first["key"]) == 401
    other = run("keys", "create", "up", "--scope", "read")
    assert other.exit_code == 2
    assert "other rights" in other.stderr
    assert [key["state"] for key in json_of(run("keys", "list", "--ended", "--json"))] == ["revoked", "live"]


def test_a_key_ends_by_itself(run, base):
    made = json_of(run("keys", "create", "guest", "--expires-in", "1h", "--json"))
    assert status(made["key"]) == 200
    engine = make_engine(base)
    with engine.begin() as c:
        c.execute(text("UPDATE api_keys SET expires_at = clock_timestamp() - interval '1 s'"))
    engine.dispose()
    assert status(made["key"]) == 401
    assert json_of(run("keys", "list", "--ended", "--json"))[0]["state"] == "expired"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["create", "a b"], "name of a key"),
        (["create", "cli"], "name of a key"),
        (["create", "0123456789ab"], "name of a key"),
        (["create", "x", "--grant", "photos/a"], "s3://bucket/prefix"),
        (["create", "x", "--grant", "s3:///a"], "bucket name"),
        (["create", "x", "--scope", "admin", "--grant", "s3://photos/"], "admin"),
        (["create", "x", "--expires-in", "soon"], "12h"),
    ],
)
def test_mistakes_end_in_one_line(run, base, words, says):
    result = run("keys", *words)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert says in result.stderr


def test_unknown_keys_cannot_be_revoked_and_do_not_show(run, base):
    typo = "dpiqa_0123456789ab_" + "s" * 43
    result = run("keys", "revoke", typo)
    assert result.exit_code == 4
    assert typo not in result.stderr


def test_the_audit_says_who_made_and_revoked_keys(run, base):
    made = json_of(run("keys", "create", "up", "--scope", "submit", "--grant", "s3://photos/", "--json"))
    run("keys", "revoke", "up")
    revoked, created = json_of(run("audit", "--json"))
    assert (created["action"], created["subject"], created["actor"]) == ("key_create", made["id"], "cli")
    assert created["detail"] == {"name": "up", "scopes": ["submit"], "grants": ["s3://photos/"]}
    assert "@" in created["account"]
    assert revoked["action"] == "key_revoke"
    assert made["key"] not in run("audit", "--json").stdout
    assert json_of(run("audit", "--action", "key_revoke", "--since", "1h", "--json")) == [revoked]
    assert json_of(run("audit", "--actor", "nobody", "--json")) == []
    assert "key_create" in run("audit", "--subject", made["id"][:4]).stdout
