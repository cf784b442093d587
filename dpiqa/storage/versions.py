"""Which version of an object is the current one. Pure: news in, decisions out.

News of one key come from events, listings and workers, late, twice and out of order. Sequencers order them where
both have one. Otherwise the store's clock does: in whole seconds unless both times are finer, because listings
have no fractions. On a tie the later arrival wins, and a worker that finds other bytes corrects it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from dpiqa.events import compare_sequencers
from dpiqa.types import ImageRef, Removal


class Fate(StrEnum):
    """What news of a version mean for its item."""

    CURRENT = "current"  #: to be scored
    SUPERSEDED = "superseded"  #: a newer version is known
    DELETED = "deleted"  #: the object is known to be gone since


@dataclass(slots=True)
class Version:
    """One version of a key as the ledger knows it, to be changed by news."""

    ref: ImageRef
    current: bool
    deleted: bool = False
    news_at: datetime | None = None  #: of the last news, its removal included
    sequencer: str | None = None  #: likewise
    id: int | None = None  #: None: not stored yet
    changed: bool = False  #: must be written
    was_current: bool = False


def newer(*, at: datetime | None, sequencer: str | None, than: Version) -> bool:
    """Whether news replace what `than` says; ties go to the later arrival."""
    if sequencer and than.sequencer:
        return compare_sequencers(sequencer, than.sequencer) >= 0
    if at is None or than.news_at is None:
        return True
    if at.microsecond and than.news_at.microsecond:
        return at >= than.news_at
    return at.replace(microsecond=0) >= than.news_at.replace(microsecond=0)


class Object:
    """All known versions of one key."""

    def __init__(self, versions: Iterable[Version]) -> None:
        self.versions: dict[str, Version] = {version.ref.etag: version for version in versions}

    @property
    def head(self) -> Version | None:
        """The version that the newest news are about: the current one, or the one deleted last."""
        known: Sequence[Version] = list(self.versions.values())
        current = [version for version in known if version.current]
        gone = [version for version in known if version.deleted]
        return current[0] if current else max(gone, key=_age, default=None)

    @property
    def gone(self) -> bool:
        """Whether the object is known to be deleted, whichever version was."""
        head = self.head
        return head is not None and head.deleted

    def fate(self, etag: str) -> Fate:
        """Say what the news mean for the item of a known version."""
        if self.versions[etag].current or not etag:
            return Fate.CURRENT
        return Fate.DELETED if self.gone else Fate.SUPERSEDED

    def put(self, ref: ImageRef, *, instead_of: str | None = None) -> None:
        """Take in news that `ref` was written. `instead_of`: a reader just met it in place of that ETag."""
        head = self.head
        old = head is not None and head.ref.etag != instead_of and not _replaces(ref, head)
        if old or not ref.etag:  # an unknown version: whoever reads it says which, and that one becomes current
            self.versions.setdefault(ref.etag, _version(ref, current=False))
            return
        for other in self.versions.values():
            if other.current and other.ref.etag != ref.etag:
                other.current, other.changed = False, True
        mine = self.versions.setdefault(ref.etag, _version(ref, current=True))
        if mine.ref is not ref and (not mine.current or _says_more(ref, mine)):
            _renew(mine, ref)

    def remove(self, removal: Removal) -> bool:
        """Take in news that the object, or one version of it, is gone. False if older than what is known."""
        head = self.head
        if removal.version_id is not None:
            head = next((v for v in self.versions.values() if v.ref.version_id == removal.version_id), None)
        if head is None or not newer(at=removal.occurred_at, sequencer=removal.sequencer, than=head):
            return False
        was_deleted = head.deleted
        head.current, head.deleted, head.changed = False, True, True
        head.news_at = removal.occurred_at or head.news_at
        head.sequencer = removal.sequencer or head.sequencer
        return not was_deleted


def _replaces(ref: ImageRef, head: Version) -> bool:
    if head.current and head.ref.etag == ref.etag:
        return _says_more(ref, head)
    return newer(at=ref.last_modified, sequencer=ref.sequencer, than=head)


def _renew(mine: Version, ref: ImageRef) -> None:
    mine.ref, mine.current, mine.deleted, mine.changed = ref, True, False, True
    mine.news_at, mine.sequencer = ref.last_modified or mine.news_at, ref.sequencer or mine.sequencer


def _age(version: Version) -> tuple[bool, float]:
    return version.news_at is not None, version.news_at.timestamp() if version.news_at else 0.0


def _says_more(ref: ImageRef, mine: Version) -> bool:
    """Whether news of the current version move its clock on, so that what lies between becomes old."""
    if ref.sequencer:
        return not mine.sequencer or compare_sequencers(ref.sequencer, mine.sequencer) > 0
    return ref.last_modified is not None and (mine.news_at is None or ref.last_modified > mine.news_at)


def _version(ref: ImageRef, *, current: bool) -> Version:
    return Version(ref=ref, current=current, news_at=ref.last_modified, sequencer=ref.sequencer, changed=True)
