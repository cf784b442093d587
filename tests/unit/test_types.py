import re
from pathlib import Path

import pytest

from dpiqa.types import CAUSE_OF, REASONS_OF, REOPENED_BY_NEWS, Cause, ItemState, Reason

JOBS_PAGE = Path(__file__).parents[2] / "docs/jobs.md"


def test_every_reason_has_a_cause_and_one_state():
    assert set(CAUSE_OF) == set(Reason)
    states = [state for reason in Reason for state, reasons in REASONS_OF.items() if reason in reasons]
    assert len(states) == len(Reason)


def test_only_bytes_that_could_not_be_had_are_tried_again_by_news():
    assert {reason for reason in Reason if CAUSE_OF[reason] is Cause.ACCESS} == REOPENED_BY_NEWS
    # what the sweeper or a newer version ended always comes back with its object
    assert REASONS_OF[ItemState.SUPERSEDED] | REASONS_OF[ItemState.DELETED] <= REOPENED_BY_NEWS
    assert not REOPENED_BY_NEWS & (REASONS_OF[ItemState.DEAD] | REASONS_OF[ItemState.CANCELLED])


@pytest.mark.parametrize("reason", Reason)
def test_the_page_about_jobs_explains_each_reason(reason):
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (\w+) \| \S", JOBS_PAGE.read_text("utf-8"), re.MULTILINE)
    (row,) = [row for row in rows if row[0] == reason]
    assert reason in REASONS_OF[ItemState(row[1])]
    assert Cause(row[2]) is CAUSE_OF[reason]
