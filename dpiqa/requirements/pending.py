"""Prepares what the API took on: one worker at a time holds a requirement by a lease, and another takes over."""

import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from time import monotonic

import structlog
from sqlalchemy import Connection

from dpiqa.errors import DpiqaError, InvalidRequest, LeaseLost, Unavailable
from dpiqa.pipeline.leases import LeaseKeeper
from dpiqa.pipeline.preparer import Reader
from dpiqa.requirement import Preparation, RequirementRequest
from dpiqa.requirements.builder import Workshop, is_prepared
from dpiqa.requirements.pair_images import PairImages, PairReader
from dpiqa.storage import requirements as rows
from dpiqa.storage.requirements import Requirement, save_preparation

log = structlog.get_logger()


class _Stopping(DpiqaError):
    """This worker ends: another shall do it."""


def prepare_pending(shop: Workshop, row_id: int, store: Reader, stopping: threading.Event) -> None:
    """Make a pending requirement ready, or refuse it with the reason. Does nothing when another worker is at it.

    Where S3 is away, or this worker ends, it is given back and the feeder rings again. What `max_crashes` workers
    died of, or failed at, is refused.
    """
    settings = shop.settings
    started = monotonic()
    held = shop.do(lambda c: rows.start_preparing(c, row_id, settings.lease_seconds))
    if held is None:
        return

    def renew(leases: Sequence[tuple[int, int]]) -> set[int]:
        return shop.do(lambda c: rows.renew_preparing(c, leases, settings.lease_seconds))

    with closing(LeaseKeeper(renew, settings.lease_seconds)) as keeper:
        keeper.hold([(held.row_id, held.attempt)], started)

        def step() -> None:
            if stopping.is_set():
                raise _Stopping("this worker ends")
            if not keeper.holds(held.row_id, held.attempt):
                raise LeaseLost(f"the lease of requirement {held.id} is over")

        try:
            _settle(shop, held, store, step)
        except LeaseLost as error:
            log.info("requirement_taken_over", requirement=held.id, error=str(error))


def _settle(shop: Workshop, held: Requirement, store: Reader, step: Callable[[], None]) -> None:
    """Prepare a requirement that is held; end it or give it back by what comes of that. Raises `LeaseLost`."""
    try:
        if held.crashes >= shop.settings.max_crashes:
            raise InvalidRequest(f"{held.crashes} workers died of it or failed at it", hint="the workers' logs say why")
        _prepare(shop, held, store, step)
    except LeaseLost:
        raise
    except (Unavailable, _Stopping) as error:
        log.warning("requirement_postponed", requirement=held.id, error=str(error))
        shop.do(lambda c: rows.release_preparing(c, held))
    except DpiqaError as error:
        reason = str(error)
        log.info("requirement_refused", requirement=held.id, error=reason)
        shop.do(lambda c: rows.refuse(c, held, reason))


def _prepare(shop: Workshop, held: Requirement, store: Reader, step: Callable[[], None]) -> None:
    """Check the pairs and make the requirement ready. Raises `LeaseLost`, and what is wrong with it."""
    pairs = [pair for pair, _ in shop.do(lambda c: rows.read_pairs(c, held))]
    wanted = RequirementRequest(
        name=held.name, pairs=tuple(pairs), direction=held.direction, model=held.model, force=held.force
    )
    images, scorer_id = shop.read(wanted, PairReader(store, files=None))
    step()
    content = wanted.content_hash(images.digests)
    twin = shop.do(lambda c: rows.same_content(c, held.name, content))
    if twin is None or not is_prepared(shop, twin, scorer_id):
        made = shop.make(wanted, images, step=step)
        twin = shop.do(lambda c: _keep(c, held, images, content, made))
    if twin is not None:
        raise InvalidRequest(f"the same images and scores are {twin.id} already", hint=f"score by {twin.id}")


def _keep(c: Connection, held: Requirement, images: PairImages, content: str, made: Preparation) -> Requirement | None:
    """Store what was made and make the requirement ready; where there is a twin, it gets the features instead."""
    rows.lock_requirement(c, held.name)
    twin = rows.same_content(c, held.name, content)
    save_preparation(c, twin or held, made)
    if twin is None:
        rows.accept(c, held, digests=images.digests, content_hash=content)
    return twin
