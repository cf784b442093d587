"""URLs of Postgres, read as `psql` reads them, by libpq: several hosts, sockets, services, percent-encoding."""

import re
from typing import Any
from urllib.parse import parse_qsl

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

from dpiqa.errors import ConfigurationError
from dpiqa.urls import DRIVER, normalise_database_url

#: Of libpq. Kernel and server notice a peer that is gone.
_LINK: dict[str, str] = {
    "connect_timeout": "5",
    "keepalives": "1",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",  # milliseconds
}
_ENCODE = "percent-encode special characters of user and password: @ is %40, / is %2F, ? is %3F, % is %25"
#: Parameters of other drivers and frameworks -> the next step.
_HINTS: dict[str, str] = {
    "ssl": "write sslmode=require",
    "sslrequire": "write sslmode=require",
    "charset": "remove it: text is always UTF-8",
    "encoding": "remove it: text is always UTF-8",
    "schema": "remove it, and set DPIQA_DATABASE_SCHEMA",
    "currentschema": "remove it, and set DPIQA_DATABASE_SCHEMA",
    "search_path": "remove it, and set DPIQA_DATABASE_SCHEMA",
    "replication": "remove it: a connection that replicates takes no queries of tables",
    "pgbouncer": "remove it: poolers are recognised",
    "prepared_statements": "remove it: poolers are recognised",
    "prepare_threshold": "remove it: poolers are recognised",
    "statement_cache_size": "remove it: poolers are recognised",
    "prepared_statement_cache_size": "remove it: poolers are recognised",
    "pool_size": "remove it: each process sizes its pool itself",
    "max_overflow": "remove it: each process sizes its pool itself",
    "pool_timeout": "remove it: each process sizes its pool itself",
    "connection_limit": "remove it: each process sizes its pool itself",
    "statement_timeout": "remove it, and set DPIQA_DATABASE_SECONDS",
    "command_timeout": "remove it, and set DPIQA_DATABASE_SECONDS",
    "timeout": "write connect_timeout=5",
    "logintimeout": "write connect_timeout=5",
}
#: Options of a session as the server reads them: `-c name=value` and `--name=value`, spaces in values as `\\ `.
_SESSION_OPTIONS = re.compile(r"\s*(?:(?:-c\s*|--)[A-Za-z_][\w.-]*=(?:\\.|[^\s\\])*(?:\s+|$))*")


def connection_parameters(url: str, application_name: str) -> dict[str, Any]:
    """Return the parameters of libpq for a URL that `normalise_database_url` accepts; the URL's win over ours.

    Text is UTF-8 whatever the URL says: no other encoding has every character of object keys. libpq itself reads the
    URL: several hosts, sockets, services and percent-encoding work as in `psql`. Raises `ConfigurationError` in one
    line without any part of the URL but the name of a wrong parameter.
    """
    try:
        text = normalise_database_url(url).replace(DRIVER, "postgresql", 1).replace(" ", "%20")
    except ValueError as error:
        raise ConfigurationError(f"DPIQA_DATABASE_URL {error}") from None
    _require_encoded(text)
    _require_known(text)
    try:
        parameters = conninfo_to_dict(_with_hosts(text))
    except psycopg.Error:  # its text may quote a part of the password
        raise ConfigurationError("DPIQA_DATABASE_URL cannot be read", hint=_ENCODE) from None
    return {**_LINK, **parameters, "client_encoding": "UTF8", "application_name": application_name}


def _require_encoded(text: str) -> None:
    """Refuse a URL whose user or password has a character that ends them too early: the rest would be a host name."""
    rest = text.partition("://")[2]
    authority, end = re.match(r"([^/?]*)(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]  # always matches
    before_values = end.partition("=")[0]
    if authority.count("@") > 1 or "@" in before_values:
        raise ConfigurationError("DPIQA_DATABASE_URL cannot be read: a character has to be encoded", hint=_ENCODE)
    hosts = authority.rpartition("@")[2]
    for host in re.sub(r"\[[^]]*\]", "", hosts).split(","):
        if not re.fullmatch(r"[^:]*(:\d*)?", host):
            raise ConfigurationError("the port in DPIQA_DATABASE_URL is not a number", hint=_ENCODE)


def _require_known(text: str) -> None:
    """Refuse a query parameter that libpq does not know, or that cannot work, by its name."""
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()} - {"replication"}
    for name, value in parse_qsl(text.partition("?")[2], keep_blank_values=True):
        if name == "options" and not _SESSION_OPTIONS.fullmatch(value):
            raise ConfigurationError(
                "DPIQA_DATABASE_URL has options that the server does not read",
                hint="write options=-csearch_path%3Diqa, percent-encoded; or remove them",
            )
        if name not in known:
            hint = _HINTS.get(name.lower(), "remove it; docs/database.md lists what the URL may contain")
            raise ConfigurationError(f"DPIQA_DATABASE_URL has an unknown parameter: {name[:40]}", hint=hint)


def _with_hosts(text: str) -> str:
    """Join hosts that are named one by one, as SQLAlchemy writes them (`?host=a:1&host=b:2`), to libpq's list."""
    address, _, query = text.partition("?")
    pairs = re.findall(r"(?:^|&)host=([^&]*)", query)
    if len(pairs) < 2:
        return text
    split = [re.fullmatch(r"(.*?)(?::(\d+))?", pair) for pair in pairs]
    hosts = ",".join(match[1] for match in split if match)
    ports = ",".join(match[2] or "5432" for match in split if match)
    others = "".join(f"&{part}" for part in query.split("&") if not part.startswith("host="))
    return f"{address}?host={hosts}&port={ports}{others}"
