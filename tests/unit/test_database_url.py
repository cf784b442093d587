"""URLs of Postgres as people and frameworks write them."""

from urllib.parse import unquote

import pytest

from dpiqa.database_url import connection_parameters
from dpiqa.errors import ConfigurationError


def read(url):
    parameters = connection_parameters(url, "dpiqa-test")
    return {name: parameters.get(name) for name in ("host", "port", "user", "password", "dbname")}


@pytest.mark.parametrize(
    "scheme",
    ["postgres", "postgresql", "postgresql+psycopg", "postgresql+psycopg2", "postgresql+asyncpg", "postgres+asyncpg"],
)
def test_a_driver_in_the_scheme_is_replaced_by_ours(scheme):
    assert read(f"{scheme}://u:p@h:6/d") == {"host": "h", "port": "6", "user": "u", "password": "p", "dbname": "d"}


def test_every_connection_notices_a_peer_that_is_gone():
    parameters = connection_parameters("postgresql://h/d", "dpiqa-test")
    assert parameters["tcp_user_timeout"] == "20000"
    idle, interval, count = (int(parameters[f"keepalives_{name}"]) for name in ("idle", "interval", "count"))
    assert idle + interval * count <= 30
    assert parameters["connect_timeout"] == "5"
    assert "options" not in parameters  # which PgBouncer refuses


def test_what_the_url_says_wins():
    parameters = connection_parameters(
        "postgresql://h/d?connect_timeout=20&keepalives_idle=60&options=-csearch_path%3Diqa&sslmode=verify-full", "x"
    )
    assert parameters["connect_timeout"] == "20"
    assert parameters["keepalives_idle"] == "60"
    assert parameters["options"] == "-csearch_path=iqa"
    assert parameters["sslmode"] == "verify-full"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql:///d?host=/run/postgresql", {"host": "/run/postgresql", "port": None}),
        ("postgresql://u@%2Frun%2Fpostgresql/d", {"host": "/run/postgresql", "user": "u"}),
        ("postgresql://u:p@a:1,b:2/d?target_session_attrs=read-write", {"host": "a,b", "port": "1,2"}),
        ("postgresql://u:p@/d?host=a:1&host=b:2", {"host": "a,b", "port": "1,2", "user": "u"}),
        ("postgresql://[::1]:5432/d", {"host": "::1", "port": "5432"}),
        ("postgresql://?service=iqa", {"host": None}),
        ("postgresql://u:p%40s%2Fs%3F%25%23:w%20rd@h/d", {"password": "p@s/s?%#:w rd", "host": "h"}),
        ("postgresql://u:a#b+c&d=e@h/d", {"password": "a#b+c&d=e"}),
    ],
)
def test_the_url_is_read_as_psql_reads_it(url, expected):
    assert read(url).items() >= expected.items()


def test_text_is_utf8_whatever_the_url_says():
    assert connection_parameters("postgresql://h/d?client_encoding=latin1", "x")["client_encoding"] == "UTF8"


@pytest.mark.parametrize(
    "parameter",
    [
        "ssl=true",
        "pool_size=5",
        "schema=iqa",
        "currentSchema=iqa",
        "pgbouncer=true",
        "charset=utf8",
        "prepared_statements=false",
        "statement_cache_size=0",
        "connection_limit=1",
        "no_such_thing=1",
        "replication=true",
    ],
)
def test_a_parameter_of_another_driver_is_named(parameter):
    with pytest.raises(ConfigurationError) as caught:
        connection_parameters(f"postgresql://u:hush@h/d?{parameter}", "x")
    assert f"unknown parameter: {parameter.partition('=')[0]}" in str(caught.value)
    assert caught.value.hint
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "is_read"),
    [
        ("-csearch_path%3Diqa", True),
        ("-c%20a.b%3D1%20--x-y%3Da%5C%20b", True),
        ("", True),
        ("garbage", False),
        ("-c", False),
        ("-cgeqo%3Doff%20foo", False),
    ],
)
def test_options_that_the_server_would_refuse_are_named(options, is_read):
    url = f"postgresql://u:hush@h/d?options={options}"
    if is_read:
        assert connection_parameters(url, "x")["options"] == unquote(options)
    else:
        with pytest.raises(ConfigurationError, match="options that the server does not read"):
            connection_parameters(url, "x")


def test_a_url_of_jdbc_says_so():
    with pytest.raises(ConfigurationError, match="remove jdbc:"):
        connection_parameters("jdbc:postgresql://h/d?user=u&password=hush", "x")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hu@sh@h/d",
        "postgresql://u:hu/sh@h/d",
        "postgresql://u:hu?sh@h/d",
        "postgresql://u:hu%zzsh@h/d",
        "postgresql://u:hush@h:hush/d",
        "postgresql://u:hush@h:54hush/d",
        "postgresql://u:hush@[::1/d",
        "postgresql://u:hu:s/h@h/d",
        "mysql://u:hush@h/d",
        "jdbc:mysql://u:hush@h/d",
        "cockroachdb://u:hush@h/d",
        "host=h password=hush",
        "hush",
        "",
    ],
)
def test_a_url_that_cannot_be_read_is_one_line_without_any_part_of_it(url):
    with pytest.raises(ConfigurationError, match="DPIQA_DATABASE_URL") as caught:
        connection_parameters(url, "x")
    text = str(caught.value)
    assert "hush" not in text
    assert "\n" not in text
    assert all(part not in text for part in ("hu@", "sh@", "hu/", "hu?", "zzsh"))
