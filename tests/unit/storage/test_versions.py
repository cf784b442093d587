"""The current version: pure, so that every order of arrival can be tried."""

from datetime import timedelta
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st
from support.ledger import T0, ref

from dpiqa.storage.versions import ObjectVersions, VersionState
from dpiqa.types import Removal


def gone(at, sequencer=None):
    return Removal(bucket="photos", key="a", occurred_at=T0 + timedelta(seconds=at), sequencer=sequencer)


def take_in(photo, event):
    if isinstance(event, Removal):
        photo.remove(event)
    else:
        photo.put(event)


def current(photo):
    return photo.head.ref.etag if photo.head and photo.head.current else None


def test_every_order_of_arrival_ends_with_the_newest():
    history = [ref("a", "e1", sequencer="01"), ref("a", "e2", sequencer="02"), ref("a", "e3", sequencer="0201")]
    for order in permutations(history):
        photo = ObjectVersions([])
        for event in (*order, *order):
            take_in(photo, event)
        assert current(photo) == "e3"
        assert [photo.state_of(etag) for etag in ("e1", "e2", "e3")] == [
            VersionState.SUPERSEDED,
            VersionState.SUPERSEDED,
            VersionState.CURRENT,
        ]


@given(
    st.lists(st.tuples(st.integers(1, 30), st.sampled_from(["e1", "e2", "e3", ""])), unique_by=lambda n: n[0]),
    st.randoms(),
)
def test_the_end_is_that_of_the_newest_event_in_any_order(history, generator):
    """With sequencers, what is current depends on the events, not on when they arrived.

    A removal of which no version was known when it arrived is the exception: it has nothing to be noted at.
    """
    history = [(n, etag) for n, etag in history]
    shuffled = sorted(history, key=lambda _: generator.random())
    photo = ObjectVersions([])
    photo.put(ref("a", "e0", sequencer="00"))
    for n, etag in shuffled:
        take_in(photo, ref("a", etag, sequencer=f"{n:04}") if etag else gone(n, f"{n:04}"))
    newest = max(history, default=(0, "e0"))[1]
    assert current(photo) == (newest or None)
    assert sum(version.current for version in photo.versions.values()) <= 1


def test_a_listing_within_the_same_second_is_not_an_older_event():
    photo = ObjectVersions([])
    photo.put(ref("a", "e1", at=10.5))
    photo.put(ref("a", "e2", at=10))
    assert current(photo) == "e2"
    photo.put(ref("a", "e3", at=9))
    assert current(photo) == "e2"


def test_finer_times_are_compared_as_they_are():
    photo = ObjectVersions([])
    photo.put(ref("a", "e2", at=10.8))
    photo.put(ref("a", "e1", at=10.5))
    assert current(photo) == "e2"
    assert not photo.remove(gone(10.6))


def test_what_was_met_in_place_of_the_current_version_replaces_it():
    photo = ObjectVersions([])
    photo.put(ref("a", "e1", at=10))
    photo.put(ref("a", "e2", at=1), expected_etag="e1")
    assert current(photo) == "e2"


def test_nothing_is_written_that_did_not_change():
    photo = ObjectVersions([])
    photo.put(ref("a", "e1", at=10))
    for version in photo.versions.values():
        version.changed = False
    photo.put(ref("a", "e1", at=10))
    photo.put(ref("a", "e1", at=5))
    assert not photo.versions["e1"].changed
