"""Access: what a caller may do, and to which part of the archive; API keys as text. Pure.

A *grant* is a bucket or a prefix of one, as text: `s3://photos/2024/`, or a folder `file:///srv/photos/`. A key without
grants reaches everything.
"""

import hashlib
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from dpiqa.addresses import S3Address, folder_path, is_folder, is_s3, parse_s3, split_s3
from dpiqa.errors import Forbidden, InvalidRequest, NotFound
from dpiqa.types import KeyScope

MAX_GRANTS = 100  #: of one key
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"  #: of a key
_KEY = re.compile(r"dpiqa_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")


def parse_grant(text: str) -> str:
    """Return a grant in its stored form. Raises `InvalidRequest` for anything but an S3 address or a folder."""
    if is_s3(text):
        return str(parse_s3(text))
    if is_folder(text):
        folder_path(text.rstrip("/"))
        return f"{text.rstrip('/')}/"
    raise InvalidRequest(f"{text!r} is not a bucket or prefix", hint="write s3://bucket/prefix or file:///folder")


def _address(bucket: str, key: str) -> str:
    """Return the text that a grant covers by its beginning: the bucket always ends in a slash."""
    return f"{bucket if is_folder(bucket) else f's3://{bucket}'}/{key}"


@dataclass(frozen=True, slots=True)
class Grants:
    """The buckets and prefixes that a caller is limited to."""

    texts: tuple[str, ...] | None = None  #: in their stored form, none within another; None: everything

    @classmethod
    def of(cls, texts: Iterable[str] | None) -> "Grants":
        """Read stored grants, or those that a user wrote. None: everything. Raises `InvalidRequest`."""
        if texts is None:
            return EVERYTHING
        parsed = sorted({parse_grant(text) for text in texts})
        kept: list[str] = []
        for text in parsed:  # in their order, what covers another stands before it
            if not any(text.startswith(wider) for wider in kept):
                kept.append(text)
        if not 1 <= len(kept) <= MAX_GRANTS:
            raise InvalidRequest(f"a key has 1 to {MAX_GRANTS} grants, not {len(kept)}", hint="use a wider prefix")
        return cls(tuple(kept))

    @property
    def are_limited(self) -> bool:
        """Return whether there is anything that they do not cover."""
        return self.texts is not None

    def stored(self) -> list[str] | None:
        """Return them as a column holds them."""
        return None if self.texts is None else list(self.texts)

    def cover(self, bucket: str, key: str) -> bool:
        """Return whether an object, or all keys of a prefix, are within one of them."""
        if self.texts is None:
            return True
        # S3 takes `..` literally; a file system, and some servers and proxies, leave the prefix by it.
        leaves_prefix = ".." in key.split("/")
        is_bucket = is_folder(bucket) or "/" not in bucket  # a slash would be taken for that of the grant
        return is_bucket and not leaves_prefix and _address(bucket, key).startswith(self.texts)

    def cover_address(self, text: str) -> bool:
        """Return whether they cover the object that `s3://bucket/key` names; nothing else is covered by a limit."""
        if self.texts is None:
            return True
        address = split_s3(text)
        return is_s3(text) and self.cover(address.bucket, address.key)

    def require(self, bucket: str, key: str = "") -> None:
        """Raise `NotFound` unless they cover an object or prefix, whether it exists or not."""
        if not self.cover(bucket, key):
            raise NotFound(
                f"{_address(bucket, key)} is not within the buckets and prefixes of this key", hint=self._named()
            )

    def require_address(self, text: str) -> None:
        """Raise `NotFound` unless they cover the object that `s3://bucket/key` names."""
        if not self.cover_address(text):
            raise NotFound(f"{text} is not within the buckets and prefixes of this key", hint=self._named())

    def parts(self) -> list[tuple[str, str | None]]:
        """Return the bucket and prefix of each; none without a limit."""
        addresses = [_parse_stored(text) for text in self.texts or ()]
        return [(address.bucket, address.key or None) for address in addresses]

    def require_all(self, what: str) -> None:
        """Raise `Forbidden` if there is a limit: `what` tells of all buckets together."""
        if self.texts is not None:
            raise Forbidden(f"{what} of all buckets need a key without limits", hint=self._named())

    def narrow(self, bucket: str | None, prefix: str | None) -> tuple[str | None, str | None]:
        """Return the part of a bucket and prefix that they cover, which is one bucket and one prefix.

        None stands for all buckets, or all keys. Raises `NotFound` where they cover nothing of it, and `InvalidRequest`
        where they cover several parts of it: no index serves those together.
        """
        if self.texts is None or (bucket is not None and self.cover(bucket, prefix or "")):
            return bucket, prefix
        wanted = "" if bucket is None else _address(bucket, prefix or "")
        parts = [text for text in self.texts if text.startswith(wanted)]
        if bucket is not None and not parts:
            self.require(bucket, prefix or "")
        if len(parts) > 1:
            raise InvalidRequest("this key covers several parts of what is asked for", hint=f"ask for {parts[0]} alone")
        return Grants((parts[0],)).parts()[0]

    def _named(self) -> str:
        texts = self.texts or ()
        return f"it covers {', '.join(texts[:5])}{', ...' if len(texts) > 5 else ''}"


EVERYTHING = Grants()


def _parse_stored(text: str) -> S3Address:
    return split_s3(text) if is_s3(text) else S3Address(text.rstrip("/"), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The caller of a request: its key, or the trusted user of this machine."""

    name: str  #: of the key; `bootstrap`: DPIQA_API_KEY; `local`: no key is demanded
    key_id: str | None = None  #: None: the key is not a stored one
    scopes: frozenset[KeyScope] = frozenset({KeyScope.ADMIN})
    grants: Grants = EVERYTHING
    requests_per_minute: int | None = None  #: None: no limit
    max_open_jobs: int | None = None  #: None: no limit

    def require(self, *scopes: KeyScope) -> None:
        """Raise `Forbidden` unless the key has one of the scopes, or `admin`."""
        if not self.scopes & {*scopes, KeyScope.ADMIN}:
            has = ", ".join(sorted(self.scopes))
            raise Forbidden(
                f"this needs a key with the scope {' or '.join(scopes)}; this key has {has}",
                hint="`dpiqa keys create --scope` makes one",
            )

    @property
    def client(self) -> str | None:
        """The name under which jobs and idempotency keys are kept apart; None: not of a stored key."""
        return None if self.key_id is None else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """The user behind a change, as the audit names them."""

    name: str  #: of the key, `bootstrap`, `local` or `cli`
    key_id: str | None = None
    account: str | None = None  #: user and machine of the command line
    address: str | None = None  #: network address of the caller of the API
    request_id: str | None = None


#: The actor of what runs now. A context variable, because an actor changes nothing of what is done: it is written down
#: where the change is made, in its transaction, and the API and the command line share that code. None: the system.
_ACTOR: ContextVar[Actor | None] = ContextVar("actor", default=None)


@contextmanager
def acting_as(actor: Actor) -> Iterator[None]:
    """Name the actor of the block, threads that inherit its context included."""
    token = _ACTOR.set(actor)
    try:
        yield
    finally:
        _ACTOR.reset(token)


def current_actor() -> Actor | None:
    """Return the actor of what runs now; None: the system itself, whose changes are not audited."""
    return _ACTOR.get()


def new_key() -> tuple[str, str]:
    """Return the id and the text of a new key: the id is part of the text, and 256 random bits follow it."""
    key_id = secrets.token_hex(6)
    return key_id, f"dpiqa_{key_id}_{secrets.token_urlsafe(32)}"


def key_id_of(text: str) -> str | None:
    """Return the id in the text of a key; None for text that is not a key."""
    match = _KEY.fullmatch(text)
    return match and match.group(1)


def digest_of(text: str) -> bytes:
    """Return the SHA-256 of a key. Enough for random keys: nobody can try 2**256 of them."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
