"""The versions of one object, and which of them is current by the events about them. Pure.

Events of one key come from S3, from listings and from workers, late, twice and out of order. Sequencers order them
where both have one. Otherwise the store's clock does: in whole seconds unless both times are finer, because listings
have no fractions. On a tie the later arrival wins, and a worker that finds other bytes corrects it.
"""

import math
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
    sequencer: str | None = None  #: of that event
    id: int | None = None  #: None: not stored yet
    changed: bool = False  #: must be written
    was_current: bool = False

    def is_superseded_by(self, time: datetime | None, sequencer: str | None) -> bool:
        """Return whether an event supersedes the last one about this version; ties go to the later arrival."""
        if sequencer and self.sequencer:
            return compare_sequencers(sequencer, self.sequencer) >= 0
        if time is None or self.observed_at is None:
            return True
        if time.microsecond and self.observed_at.microsecond:
            return time >= self.observed_at
        return time.replace(microsecond=0) >= self.observed_at.replace(microsecond=0)


class ObjectVersions:
    """All known versions of one key."""

    def __init__(self, versions: Iterable[Version]) -> None:
        self.versions: dict[str, Version] = {version.ref.etag: version for version in versions}

    @property
    def head(self) -> Version | None:
        """The version that the newest event is about: the current one, or the one deleted last."""
        current = [version for version in self.versions.values() if version.current]
        deleted = [version for version in self.versions.values() if version.deleted]
        if current:
            return current[0]
        return max(deleted, key=lambda v: v.observed_at.timestamp() if v.observed_at else -math.inf, default=None)

    @property
    def is_deleted(self) -> bool:
        """Return whether the object is known to be deleted."""
        head = self.head
        return head is not None and head.deleted

    def state_of(self, etag: str) -> VersionState:
        """Return the state of a known version."""
        if self.versions[etag].current or not etag:
            return VersionState.CURRENT
        return VersionState.DELETED if self.is_deleted else VersionState.SUPERSEDED

    def put(self, ref: ImageRef, *, expected_etag: str | None = None) -> None:
        """Apply an event that `ref` was written. `expected_etag`: a worker found `ref` instead of this version."""
        head = self.head
        if head is None or head.ref.etag == expected_etag:
            is_old = False
        elif head.current and head.ref.etag == ref.etag:
            is_old = not _advances(ref, head)
        else:
            is_old = not head.is_superseded_by(ref.last_modified, ref.sequencer)
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
        """Apply an event that the object, or one version of it, is gone. False if a newer event is known."""
        head = self.head
        if removal.version_id is not None:
            head = next((v for v in self.versions.values() if v.ref.version_id == removal.version_id), None)
        if head is None or not head.is_superseded_by(removal.occurred_at, removal.sequencer):
            return False
        was_deleted = head.deleted
        head.current, head.deleted, head.changed = False, True, True
        head.observed_at = removal.occurred_at or head.observed_at
        head.sequencer = removal.sequencer or head.sequencer
        return not was_deleted


def _advances(ref: ImageRef, version: Version) -> bool:
    """Return whether an event about a version advances its event time, so that events in between become old."""
    if ref.sequencer:
        return not version.sequencer or compare_sequencers(ref.sequencer, version.sequencer) > 0
    return ref.last_modified is not None and (version.observed_at is None or ref.last_modified > version.observed_at)


def _version(ref: ImageRef, *, current: bool) -> Version:
    return Version(ref=ref, current=current, observed_at=ref.last_modified, sequencer=ref.sequencer, changed=True)
