"""Connection URLs: normalised, and without their passwords for logs. Pure."""

from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

DRIVER = "postgresql+psycopg"  #: as SQLAlchemy names it
#: The driver of a URL is replaced by ours: it says nothing about the server.
_POSTGRES_SCHEMES = frozenset({"postgres", "postgresql"})
_DRIVERS = frozenset({"", "psycopg", "psycopg2", "psycopg2cffi", "psycopg_async", "asyncpg", "aiopg", "pg8000"})
_SECRET_PARAMETERS = frozenset({"password", "sslpassword", "passfile", "sentinel_password", "ssl_password"})


def normalise_database_url(url: str) -> str:
    """`postgres://`, `postgresql://`, `postgresql+asyncpg://` -> `postgresql+psycopg://`.

    What follows the scheme stays as it was written. Raises `ValueError` for anything else.
    """
    scheme, separator, rest = url.strip().partition("://")
    if scheme.lower().startswith("jdbc:"):
        raise ValueError("is a URL of JDBC; remove jdbc:, and write user and password before the host: user:password@")
    dialect, _, driver = scheme.lower().partition("+")
    if not separator or dialect not in _POSTGRES_SCHEMES or driver not in _DRIVERS:
        raise ValueError("is not a Postgres URL; it looks like postgresql://user:password@host:5432/database")
    return f"{DRIVER}://{rest}"


def mask_url(url: str) -> str:
    """Return any URL with its password (user info and query) as `***`.

    Not SQLAlchemy's `render_as_string`: of a password with an `@` in it, that shows what follows the first one. Where
    a password may have been cut by one of its own characters, as in `redis://:a/b@host`, only the scheme is left.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return "***"  # better no URL in the log than a password
    if "@" in parts.path + parts.query + parts.fragment:
        return f"{parts.scheme}://***"
    user, separator, host = parts.netloc.rpartition("@")
    if separator and ":" in user:
        user = user.partition(":")[0] + ":***"
    query = urlencode(
        [(name, "***" if name in _SECRET_PARAMETERS else value) for name, value in parse_qsl(parts.query)], safe="*/"
    )
    return urlunsplit(parts._replace(netloc=f"{user}{separator}{host}", query=query))
