"""Connection URLs: normalised, and without their passwords for logs. Pure."""

from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

_DRIVER = "postgresql+psycopg"
_POSTGRES_SCHEMES = frozenset({"postgres", "postgresql", _DRIVER})
_SECRET_PARAMETERS = frozenset({"password", "sslpassword", "passfile"})


def normalise_database_url(url: str) -> str:
    """`postgres://`, `postgresql://` -> `postgresql+psycopg://`. Raises `ValueError` for anything else."""
    scheme, found, rest = url.strip().partition("://")
    if not found or scheme not in _POSTGRES_SCHEMES:
        raise ValueError("is no Postgres URL; it looks like postgresql://user:password@host:5432/database")
    return f"{_DRIVER}://{rest}"


def mask_url(url: str) -> str:
    """Return the URL with its password (user info and query) as `***`."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "***"  # better no URL in the log than a password
    user, found, host = parts.netloc.rpartition("@")
    if found and ":" in user:
        user = user.partition(":")[0] + ":***"
    query = urlencode(
        [(name, "***" if name in _SECRET_PARAMETERS else value) for name, value in parse_qsl(parts.query)], safe="*/"
    )
    return urlunsplit(parts._replace(netloc=f"{user}{found}{host}", query=query))


def database_url(*, user: str, password: str, port: int, database: str, host: str = "127.0.0.1") -> str:
    """Return a database URL made of its parts, with the password quoted."""
    return f"{_DRIVER}://{quote(user)}:{quote(password, safe='')}@{host}:{port}/{quote(database)}"
