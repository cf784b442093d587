"""Steering of jobs, as the API and the command line do it: one transaction, then a ring where a listing continues."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, Engine

from dpiqa.access import EVERYTHING, Grants
from dpiqa.doorbell import Doorbell, ring_expand
from dpiqa.storage import steering
from dpiqa.storage.engine import transaction
from dpiqa.storage.job_queries import JobReport, get_job
from dpiqa.storage.jobs import Job, read_job
from dpiqa.types import ItemState, JobState, Reason

#: A function of `dpiqa.storage.steering` that takes a connection and the name of a job.
Change = Callable[[Connection, UUID | str], Job]


@dataclass(frozen=True, slots=True)
class Steered:
    """A job after a user changed it."""

    report: JobReport
    n_retried: int = 0  #: items that are, or soon will be, open again
    warning: str | None = None  #: the change is recorded, but the broker was unavailable


def steer(
    engine: Engine,
    name: UUID | str,
    change: Change,
    doorbell: Doorbell | None = None,
    *,
    grants: Grants = EVERYTHING,
) -> Steered:
    """Change a job and report on it. `doorbell`: needed by a change after which a listing may continue.

    Raises as `read_job` and the change.
    """
    with transaction(engine) as c:
        report = get_job(c, change(c, read_job(c, name, grants).id).id, grants)
    return Steered(report, warning=_continue_listing(report, doorbell))


def retry(
    engine: Engine,
    name: UUID | str,
    doorbell: Doorbell,
    *,
    states: Collection[ItemState] = (),
    reasons: Collection[Reason] = (),
    grants: Grants = EVERYTHING,
) -> Steered:
    """Reopen items of a job that ended unscored, and report on it. Arguments and errors as `steering.retry_job`."""
    with transaction(engine) as c:
        retried = steering.retry_job(c, read_job(c, name, grants).id, states=states, reasons=reasons)
        report = get_job(c, retried.job.id, grants)
    return Steered(report, retried.n_items, _continue_listing(report, doorbell))


def _continue_listing(report: JobReport, doorbell: Doorbell | None) -> str | None:
    if doorbell is None or report.job.state is not JobState.LISTING:
        return None
    return ring_expand(doorbell, str(report.job.id))
