"""Preparation of requirements that the API accepted: one worker at a time holds one by a lease."""

import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from time import monotonic

import structlog
from sqlalchemy import Connection

from dpiqa.errors import DeviceMemoryError, DpiqaError, InvalidRequest, LeaseLost, Unavailable
from dpiqa.pipeline.leases import LeaseKeeper
from dpiqa.pipeline.preparer import Reader
from dpiqa.requirement import RequirementRequest
from dpiqa.requirements.builder import RequirementBuilder
from dpiqa.requirements.pair_images import PairReader
from dpiqa.storage import requirements
from dpiqa.storage.requirements import Requirement

log = structlog.get_logger()


class _WorkerStopsError(Exception):
    """This worker ends; another takes over."""


def prepare_pending(builder: RequirementBuilder, row_id: int, store: Reader, stopping: threading.Event) -> None:
    """Make a pending requirement ready, or refuse it with the reason. Does nothing when another worker holds it.

    While S3 is unavailable, or when this worker ends, it is released, and the feeder announces it again. One that
    crashed or failed `max_crashes` workers is refused.
    """
    lease_seconds = builder.settings.lease_seconds
    started = monotonic()
    requirement = builder.commit(lambda c: requirements.start_preparing(c, row_id, lease_seconds))
    if requirement is None:
        return

    def renew(leases: Sequence[tuple[int, int]]) -> set[int]:
        return builder.commit(lambda c: requirements.renew_preparing(c, leases, lease_seconds))

    with closing(LeaseKeeper(renew, lease_seconds)) as keeper:
        keeper.hold([(requirement.row_id, requirement.attempt)], started)

        def step() -> None:
            if stopping.is_set():
                raise _WorkerStopsError("this worker ends")
            if not keeper.holds(requirement.row_id, requirement.attempt):
                raise LeaseLost(f"the lease of requirement {requirement.id} is over")

        try:
            _settle(builder, requirement, store, step)
        except LeaseLost as error:
            log.info("requirement_taken_over", requirement=requirement.id, error=str(error))


def _settle(builder: RequirementBuilder, requirement: Requirement, store: Reader, step: Callable[[], None]) -> None:
    """Prepare a requirement whose lease is held, then make it ready, refuse it or release it. Raises `LeaseLost`."""
    try:
        if requirement.crashes >= builder.settings.max_crashes:
            raise InvalidRequest(
                f"{requirement.crashes} workers died over it or failed at it", hint="see the logs of the workers"
            )
        _prepare(builder, requirement, store, step)
    except (LeaseLost, DeviceMemoryError):  # the latter counts as a crash: another worker may have more memory
        raise
    except (Unavailable, _WorkerStopsError) as error:
        log.warning("requirement_postponed", requirement=requirement.id, error=str(error))
        builder.commit(lambda c: requirements.release_preparing(c, requirement))
    except DpiqaError as error:
        reason = str(error)
        log.info("requirement_refused", requirement=requirement.id, error=reason)
        builder.commit(lambda c: requirements.refuse(c, requirement, reason))


def _prepare(builder: RequirementBuilder, requirement: Requirement, store: Reader, step: Callable[[], None]) -> None:
    """Check the pairs and make the requirement ready. Raises `DpiqaError` with the reason to refuse it."""
    pairs = [pair for pair, _ in builder.commit(lambda c: requirements.read_pairs(c, requirement))]
    request = RequirementRequest(
        name=requirement.name,
        pairs=tuple(pairs),
        direction=requirement.direction,
        model=requirement.model,
        force=requirement.force,
    )
    images, scorer_id = builder.read(request, PairReader(store, files=None))
    step()
    content = request.content_hash(images.digests)
    identical = builder.commit(lambda c: requirements.same_content(c, requirement.name, content))
    if identical is None or not builder.is_prepared(identical, scorer_id):
        preparation = builder.check(request, images, step=step)

        def accept(c: Connection) -> Requirement | None:
            """Store the features and make the requirement ready; an identical one gets the features instead."""
            requirements.lock_requirement(c, requirement.name)
            identical = requirements.same_content(c, requirement.name, content)
            requirements.save_preparation(c, identical or requirement, preparation)
            if identical is None:
                requirements.accept(c, requirement, digests=images.digests, content_hash=content)
            return identical

        identical = builder.commit(accept)
    if identical is not None:
        raise InvalidRequest(f"the same images and scores are {identical.id} already", hint=f"score by {identical.id}")
