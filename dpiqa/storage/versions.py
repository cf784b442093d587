"""The versions of one object: which is the current one, by the events about them. Pure.

Events of one key come from S3, from listings and from workers, late, twice and out of order. Sequencers order them
where both have one. Otherwise the store's clock does: in whole seconds unless both times are finer, because listings
have no fractions. On a tie the later arrival wins, and a worker that finds other bytes corrects it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from dpiqa.events import compare_sequencers
from dpiqa.types import ImageRef, Removal


class VersionState(StrEnum):
    """The state of a version, which decides what happens to its item."""

    CURRENT = "current"  #: to be scored
    SUPERSEDED = "superseded"  #: a newer version is known
    DELETED = "deleted"  #: the object was deleted since


@dataclass(slots=True)
class Version:
    """One version of a key as the ledger knows it, to be changed by events."""

    ref: ImageRef
    current: bool
    deleted: bool = False
    observed_at: datetime | None = None  #: of the last event, its removal included
    sequencer: str | None = None  #: likewise
    id: int | None = None  #: None: not stored yet
    changed: bool = False  #: must be written
    was_current: bool = False


def newer(*, at: datetime | None, sequencer: str | None, than: Version) -> bool:
    """Return whether this event supersedes the last one about `than`; ties go to the later arrival."""
    if sequencer and than.sequencer:
        return compare_sequencers(sequencer, than.sequencer) >= 0
    if at is None or than.observed_at is None:
        return True
    if at.microsecond and than.observed_at.microsecond:
        return at >= than.observed_at
    return at.replace(microsecond=0) >= than.observed_at.replace(microsecond=0)


class ObjectVersions:
    """All known versions of one key."""

    def __init__(self, versions: Iterable[Version]) -> None:
        self.versions: dict[str, Version] = {version.ref.etag: version for version in versions}

    @property
    def head(self) -> Version | None:
        """The version that the newest event is about: the current one, or the one deleted last."""
        current = [version for version in self.versions.values() if version.current]
        gone = [version for version in self.versions.values() if version.deleted]
        return current[0] if current else max(gone, key=_age, default=None)

    @property
    def gone(self) -> bool:
        """Return whether the object is known to be deleted, whichever version was."""
        head = self.head
        return head is not None and head.deleted

    def state_of(self, etag: str) -> VersionState:
        """Return the state of a known version."""
        if self.versions[etag].current or not etag:
            return VersionState.CURRENT
        return VersionState.DELETED if self.gone else VersionState.SUPERSEDED

    def put(self, ref: ImageRef, *, instead_of: str | None = None) -> None:
        """Take in an event that `ref` was written. `instead_of`: a reader just met it in place of that ETag."""
        head = self.head
        is_old = head is not None and head.ref.etag != instead_of and not _replaces(ref, head)
        if is_old or not ref.etag:  # no ETag: the worker that reads the object finds it, and that one becomes current
            self.versions.setdefault(ref.etag, _version(ref, current=False))
            return
        for other in self.versions.values():
            if other.current and other.ref.etag != ref.etag:
                other.current, other.changed = False, True
        version = self.versions.setdefault(ref.etag, _version(ref, current=True))
        if version.ref is not ref and (not version.current or _advances(ref, version)):
            version.ref, version.current, version.deleted, version.changed = ref, True, False, True
            version.observed_at = ref.last_modified or version.observed_at
            version.sequencer = ref.sequencer or version.sequencer

    def remove(self, removal: Removal) -> bool:
        """Take in an event that the object, or one version of it, is gone. False if a newer event is known."""
        head = self.head
        if removal.version_id is not None:
            head = next((v for v in self.versions.values() if v.ref.version_id == removal.version_id), None)
        if head is None or not newer(at=removal.occurred_at, sequencer=removal.sequencer, than=head):
            return False
        was_deleted = head.deleted
        head.current, head.deleted, head.changed = False, True, True
        head.observed_at = removal.occurred_at or head.observed_at
        head.sequencer = removal.sequencer or head.sequencer
        return not was_deleted


def _replaces(ref: ImageRef, head: Version) -> bool:
    if head.current and head.ref.etag == ref.etag:
        return _advances(ref, head)
    return newer(at=ref.last_modified, sequencer=ref.sequencer, than=head)


def _age(version: Version) -> tuple[bool, float]:
    return version.observed_at is not None, version.observed_at.timestamp() if version.observed_at else 0.0


def _advances(ref: ImageRef, version: Version) -> bool:
    """Return whether an event of the current version moves its clock on, so that what lies between becomes old."""
    if ref.sequencer:
        return not version.sequencer or compare_sequencers(ref.sequencer, version.sequencer) > 0
    return ref.last_modified is not None and (version.observed_at is None or ref.last_modified > version.observed_at)


def _version(ref: ImageRef, *, current: bool) -> Version:
    return Version(ref=ref, current=current, observed_at=ref.last_modified, sequencer=ref.sequencer, changed=True)
