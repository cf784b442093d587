"""API keys in Postgres: made, looked up, revoked. Only their SHA-256 is stored."""

import hmac
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from sqlalchemy import Connection, Row, Select, bindparam, insert, or_, select, update

from dpiqa.access import NAME_PATTERN, Grants, digest_of, key_id_of, new_key
from dpiqa.errors import Conflict, InvalidRequest, NotFound
from dpiqa.storage.access_tables import api_keys
from dpiqa.storage.audit import audited
from dpiqa.storage.columns import NOW
from dpiqa.storage.engine import Lock, lock_names
from dpiqa.text import shorten
from dpiqa.types import AuditAction, KeyScope

MAX_LIVE = 2  #: keys of one name that are live at once: the old one and the new one, while the client changes over
USED_SECONDS = 60.0  #: the time of the last use is written at most this often


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A row of `api_keys`, without the digest."""

    id: str  #: 12 hex digits; the key begins with `dpiqa_<id>_`
    name: str  #: the client
    scopes: frozenset[KeyScope]
    grants: Grants
    requests_per_minute: int | None  #: None: the setting's
    max_open_jobs: int | None  #: None: the setting's
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None  #: to about a minute
    is_live: bool  #: neither expired nor revoked

    @classmethod
    def from_row(cls, row: Row[Any]) -> Self:
        """Read a row of `ALL_KEYS` or `LIVE_KEY`."""
        values = {name: value for name, value in row._mapping.items() if name != "digest"}
        values["scopes"] = frozenset(KeyScope(scope) for scope in values["scopes"])
        values["grants"] = Grants(None if values["grants"] is None else tuple(values["grants"]))
        return cls(**values)

    @property
    def prefix(self) -> str:
        """The beginning of the key, by which it is recognised."""
        return f"dpiqa_{self.id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRequest:
    """A key to be made. None and () take what the live key of the name has, else the default."""

    name: str
    scopes: Collection[KeyScope] = ()  #: default: `read`
    grants: Grants | None = None  #: default: no limit
    requests_per_minute: int | None = None
    max_open_jobs: int | None = None
    lifetime: timedelta | None = None  #: None: it does not expire


_IS_LIVE = api_keys.c.revoked_at.is_(None) & or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > NOW)
_COLUMNS = [column for column in api_keys.c if column.name != "digest"]
ALL_KEYS: Select[Any] = select(*_COLUMNS, _IS_LIVE.label("is_live")).order_by(
    api_keys.c.name, api_keys.c.created_at, api_keys.c.id
)
LIVE_KEY = ALL_KEYS.add_columns(api_keys.c.digest).where(api_keys.c.id == bindparam("key_id"), _IS_LIVE)
INSERT_KEY = insert(api_keys).returning(*ALL_KEYS.selected_columns)
REVOKE = (
    update(api_keys)
    .where(_IS_LIVE, or_(api_keys.c.id == bindparam("named"), api_keys.c.name == bindparam("named")))
    .values(revoked_at=NOW)
    .returning(*ALL_KEYS.selected_columns)
)
NOTE_USE = (
    update(api_keys)
    .where(api_keys.c.id == bindparam("key_id"))
    .where(or_(api_keys.c.last_used_at.is_(None), api_keys.c.last_used_at < NOW - timedelta(seconds=USED_SECONDS)))
    .values(last_used_at=NOW)
)
_NOBODY = bytes(32)
_NO_NAME = re.compile("[0-9a-f]{12}|cli|local|bootstrap")


def create_key(c: Connection, request: KeyRequest) -> tuple[ApiKey, str]:
    """Make a key; return it with its text, which is shown once and stored nowhere.

    A second live key of a name is for rotation: it has the rights of the first. Raises `Conflict` for other rights, and
    for a third live key; `InvalidRequest` for a key that is limited and has the scope `admin`.
    """
    if not re.fullmatch(NAME_PATTERN, request.name) or _NO_NAME.fullmatch(request.name):
        hint = "letters, digits, dots, dashes and underscores, at most 64; not an id of a key, cli, local or bootstrap"
        raise InvalidRequest(f"{shorten(request.name, 80)!r} cannot be the name of a key", hint=hint)
    lock_names(c, Lock.API_KEY, [request.name])
    live = [ApiKey.from_row(row) for row in c.execute(ALL_KEYS.where(api_keys.c.name == request.name, _IS_LIVE))]
    if len(live) >= MAX_LIVE:
        ids = " and ".join(key.id for key in live)
        raise Conflict(f"{request.name} has {MAX_LIVE} live keys: {ids}", hint="revoke one first")
    scopes = frozenset(request.scopes) or (live[0].scopes if live else frozenset({KeyScope.READ}))
    grants = request.grants or (live[0].grants if live else Grants())
    if live and (scopes, grants) != (live[0].scopes, live[0].grants):
        hint = "leave --scope and --grant out, revoke it first, or choose another name"
        raise Conflict(f"{request.name} has a live key with other rights: {live[0].id}", hint=hint)
    if grants.are_limited and KeyScope.ADMIN in scopes:
        raise InvalidRequest("a key with the scope admin cannot be limited", hint="use the scopes read and submit")
    key_id, text = new_key()
    values = {
        "id": key_id,
        "name": request.name,
        "digest": digest_of(text),
        "scopes": sorted(scopes),
        "grants": grants.stored(),
        "requests_per_minute": request.requests_per_minute or (live[0].requests_per_minute if live else None),
        "max_open_jobs": request.max_open_jobs or (live[0].max_open_jobs if live else None),
    }
    statement = INSERT_KEY if request.lifetime is None else INSERT_KEY.values(expires_at=NOW + request.lifetime)
    key = ApiKey.from_row(c.execute(statement, values).one())
    audited(c, AuditAction.KEY_CREATE, key.id, name=key.name, scopes=values["scopes"], grants=values["grants"])
    return key, text


def find_key(c: Connection, text: str) -> ApiKey | None:
    """Return the live key of this text; None for any other text. Notes that it was used."""
    row = c.execute(LIVE_KEY, {"key_id": key_id_of(text) or ""}).one_or_none()
    if not hmac.compare_digest(digest_of(text), _NOBODY if row is None else bytes(row.digest)) or row is None:
        return None
    c.execute(NOTE_USE, {"key_id": row.id})
    return ApiKey.from_row(row)


def read_live_key(c: Connection, key_id: str) -> ApiKey | None:
    """Return the live key of this id, for a session that began with its text; None where it ended since."""
    row = c.execute(LIVE_KEY, {"key_id": key_id}).one_or_none()
    return None if row is None else ApiKey.from_row(row)


def list_keys(c: Connection, *, ended: bool = False) -> list[ApiKey]:
    """Return the live keys by name; `ended`: also those that expired or were revoked."""
    rows = c.execute(ALL_KEYS if ended else ALL_KEYS.where(_IS_LIVE))
    return [ApiKey.from_row(row) for row in rows]


def revoke_keys(c: Connection, named: str) -> list[ApiKey]:
    """Revoke the key with this id, or all live keys of this name. Raises `NotFound`."""
    key_id = key_id_of(named) or named.removeprefix("dpiqa_")
    rows = c.execute(REVOKE, {"named": key_id}).all()
    if not rows:
        raise NotFound("no live key has this id or name", hint="`dpiqa keys list` shows them")
    revoked = [ApiKey.from_row(row) for row in rows]
    for key in revoked:
        audited(c, AuditAction.KEY_REVOKE, key.id, name=key.name)
    return revoked
