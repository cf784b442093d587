"""Listing of a bucket's prefix, page by page, that makes progress on any server or ends with the reason.

A page is asked for by the last key of the one before (`start-after`), which needs no state of the server and can be
resumed. Servers that ignore it answer with a page that was seen before: then by their continuation token, then by the
marker of the first version of the request. A server that obeys none of them is named in an error.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from itertools import pairwise
from typing import Any

from dpiqa.addresses import probe_id
from dpiqa.errors import ConfigurationError
from dpiqa.text import bare_etag
from dpiqa.types import ImageRef

_MAX_EMPTY_PAGES = 1000  #: in a row: a server that skips deleted keys may send some
_MANIFEST_HINT = "submit a manifest of its keys instead; this server's listings cannot be continued"


class Paging(Enum):
    """Way to ask for the page after another."""

    START_AFTER = auto()  #: by the last key
    TOKEN = auto()  #: by the continuation token of the last page
    MARKER = auto()  #: by the last key, in the first version of the request


#: Returns one parsed answer for a way of paging and its key or token; "" is the first page. Raises our errors.
Ask = Callable[[Paging, str], Any]


@dataclass(frozen=True, slots=True)
class _Answer:
    """The part of an answer that decides how to go on."""

    entries: list[Any]
    keys: list[str]
    token: str | None
    is_truncated: bool

    @classmethod
    def of(cls, response: Any, bucket: str) -> "_Answer":
        entries = response.get("Contents") or []
        token = response.get("NextContinuationToken") or None
        if not entries and not {"Name", "IsTruncated", "KeyCount", "MaxKeys", "Prefix"} & set(response):
            raise ConfigurationError(
                f"bucket {bucket} cannot be listed: the answer is not a listing", hint="check DPIQA_S3_ENDPOINT_URL"
            )
        return cls(entries, [entry["Key"] for entry in entries], token, response.get("IsTruncated", token is not None))


def list_pages(ask: Ask, bucket: str, prefix: str, start_after: str) -> Iterator[list[ImageRef]]:
    """Yield the objects below a prefix in the order of their keys, without folder markers and probes.

    Raises as `ask`, and `ConfigurationError` where the server repeats its pages, or lists its keys in no order.
    """
    paging, argument = Paging.START_AFTER, start_after
    done = start_after  # the last key that was listed
    seen = start_after  # the last key of the page before: less than `done` where a server began from the start again
    tokens: set[str] = set()
    n_empty = 0
    while True:
        answer = _Answer.of(ask(paging, argument), bucket)
        if answer.keys and (answer.keys[0] < seen or answer.keys[-1] == seen):  # sent before
            if paging is Paging.START_AFTER and (answer.token or not answer.is_truncated):
                paging, seen = Paging.TOKEN, ""  # this page is the first, and its token leads to the second
            elif paging is not Paging.MARKER:
                paging, argument, seen = Paging.MARKER, done, done
                continue
            else:
                raise _no_progress(f"the server repeats what it sent up to {done[:200]!r}", bucket)
        entries = _in_order(answer, bucket, is_whole=not answer.is_truncated and not done)
        if refs := [_to_ref(bucket, entry) for entry in entries if _is_wanted(entry, prefix, done)]:
            yield refs
        if not answer.is_truncated:
            return
        n_empty = 0 if answer.keys else n_empty + 1
        seen = answer.keys[-1] if answer.keys else seen
        done = argument = max(done, seen)
        if paging is Paging.TOKEN or not answer.keys:
            if answer.token is None or answer.token in tokens or n_empty > _MAX_EMPTY_PAGES:
                raise _no_progress(
                    f"the server says that there is more, and sends nothing after {done[:200]!r}", bucket
                )
            tokens.add(answer.token)
            paging, argument = Paging.TOKEN, answer.token


def _no_progress(why: str, bucket: str) -> ConfigurationError:
    return ConfigurationError(f"bucket {bucket} cannot be listed to its end: {why}", hint=_MANIFEST_HINT)


def _in_order(answer: _Answer, bucket: str, *, is_whole: bool) -> list[Any]:
    """Return the entries of a page in the order of their keys.

    Raises `ConfigurationError` for a page in another order, unless it is all there is: what comes after a key decides
    what is listed next.
    """
    wrong = next(((a, b) for a, b in pairwise(answer.keys) if b < a), None)
    if wrong is None or is_whole:
        return sorted(answer.entries, key=lambda entry: str(entry["Key"])) if wrong else answer.entries
    message = f"bucket {bucket} is not listed in the order of its keys: {wrong[1][:200]!r} after {wrong[0][:200]!r}"
    raise ConfigurationError(message, hint=_MANIFEST_HINT)


def _is_wanted(entry: Any, prefix: str, done: str) -> bool:
    key = entry["Key"]
    if key <= done or not key.startswith(prefix):
        return False
    # consoles create empty objects named like folders, and a watch that is being tested its probe
    return bool(entry.get("Size") or not key.endswith("/")) and probe_id(key) is None


def _to_ref(bucket: str, entry: Any) -> ImageRef:
    return ImageRef(
        bucket=bucket,
        key=entry["Key"],
        etag=bare_etag(entry.get("ETag")),
        size=entry.get("Size"),
        last_modified=entry.get("LastModified"),
    )
