import time

import pytest
from structlog.testing import capture_logs

from dpiqa.errors import DatabaseUnavailable
from dpiqa.pipeline.leases import LeaseKeeper


@pytest.fixture
def keep():
    """Give a function that makes a `LeaseKeeper`; it ends with the test."""
    keepers = []

    def make(renew, seconds):
        keepers.append(LeaseKeeper(renew, seconds))
        return keepers[-1]

    yield make
    for keeper in keepers:
        keeper.close()


def test_leases_are_renewed_until_they_are_dropped(keep):
    renewals = []

    def renew(leases):
        renewals.append(list(leases))
        return {item for item, _ in leases}

    keeper = keep(renew, 0.3)
    keeper.hold([(1, 7), (2, 8)], time.monotonic())
    keeper.drop([(2, 8)])
    time.sleep(0.8)
    assert keeper.holds(1, 7)
    assert not keeper.holds(2, 8)
    assert renewals
    assert all(leases == [(1, 7)] for leases in renewals)


def test_a_lease_that_the_database_does_not_know_is_lost(keep):
    keeper = keep(lambda leases: {1}, 60)
    keeper.hold([(1, 7), (2, 8)], time.monotonic())
    keeper.renew_all()
    assert keeper.holds(1, 7)
    assert not keeper.holds(2, 8)


def test_only_a_loss_that_the_holder_did_not_end_is_logged(keep):
    """A renewal waits for the transaction that records an item, and then does not find the lease."""
    keeper = keep(lambda leases: set(), 60)
    keeper.hold([(1, 7), (2, 8)], time.monotonic())
    with capture_logs() as logs:
        keeper.renew_all()
        assert not keeper.holds(1, 7)
        keeper.drop([(1, 7)])
        keeper.renew_all()
        keeper.renew_all()
    assert [(entry["event"], entry["items"]) for entry in logs] == [("leases_lost", 1)]


def test_while_the_database_is_unavailable_leases_run_out_and_the_thread_lives(keep):
    is_down = True

    def renew(leases):
        if is_down:
            raise DatabaseUnavailable("the database does not answer")
        return {item for item, _ in leases}

    keeper = keep(renew, 0.3)
    keeper.hold([(1, 7)], time.monotonic())
    assert keeper.holds(1, 7)
    time.sleep(0.5)
    assert not keeper.holds(1, 7)
    is_down = False
    keeper.hold([(1, 8)], time.monotonic())
    time.sleep(0.6)
    assert keeper.holds(1, 8)


def test_time_counts_from_before_the_claim(keep):
    keeper = keep(lambda leases: set(), 60)
    keeper.hold([(1, 7)], time.monotonic() - 61)
    assert not keeper.holds(1, 7)


def test_another_fence_is_another_lease(keep):
    keeper = keep(lambda leases: set(), 60)
    keeper.hold([(1, 7)], time.monotonic())
    assert not keeper.holds(1, 6)
    keeper.drop([(1, 6)])
    assert keeper.holds(1, 7)
