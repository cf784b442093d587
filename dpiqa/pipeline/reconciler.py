"""Reconciles a bucket with the ledger: a merge of two ordered streams, page by page, which resumes after a kill.

Missing and changed objects are added to a job as they are found. Deletions are only noted: they are marked once the
whole listing was read, and never after one that failed.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeAlias, TypeVar
from uuid import UUID

import structlog
from sqlalchemy import Connection, Engine

from dpiqa.access import Grants
from dpiqa.addresses import parse_s3, prefix_end, probe_id
from dpiqa.doorbell import Doorbell, Ring, ring_score
from dpiqa.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    ImageRejected,
    InvalidRequest,
    LeaseLost,
    NotFound,
    ObjectGone,
    Unavailable,
)
from dpiqa.objects.granted import within
from dpiqa.objects.store import ObjectStore
from dpiqa.retries import retry_transaction
from dpiqa.settings import Settings
from dpiqa.sources.base import SourcePage
from dpiqa.sources.inventory import InventorySource, S3Inventory
from dpiqa.sources.names import is_no_image
from dpiqa.storage import comparison
from dpiqa.storage.comparison import LedgerImage, NotedDifference
from dpiqa.storage.engine import transaction
from dpiqa.storage.feed import ring_now
from dpiqa.storage.reconciliations import (
    Reconciliation,
    complete_reconciliation,
    fail_reconciliation,
    read_reconciliation,
    release_reconciliation,
    save_reconciliation,
    start_reconciliation,
)
from dpiqa.types import Difference, ImageRef, ReconciliationState

log = structlog.get_logger()
T = TypeVar("T")

LEDGER_ROWS = 2000  #: of one transaction: it holds the bucket's lock, for which live events wait
STAGED_ROWS = 1000  #: of an inventory, in one page
MARKED_ROWS = 500  #: deletions of one transaction
MAX_EXAMPLES = 10  #: keys of each kind in a report
FEW_DELETED = 100  #: deletions that need no permission, whatever their share
_LAST = "\U0010ffff" * 300  #: greater than every key
#: The subjects of each kind of difference.
_Found: TypeAlias = dict[Difference, Sequence[ImageRef | LedgerImage]]


@dataclass(frozen=True, slots=True)
class Compared:
    """The objects of a range of keys, and the ledger's current images of the same range, by what they differ in."""

    missing: list[ImageRef] = field(default_factory=list)  #: keys without a current image
    changed: list[ImageRef] = field(default_factory=list)
    unscored: list[tuple[ImageRef, LedgerImage]] = field(default_factory=list)  #: unchanged, no result, not waiting
    deleted: list[LedgerImage] = field(default_factory=list)
    unchanged: int = 0
    waiting: int = 0
    newer: int = 0  #: images that events named after the time of the listing
    skipped: int = 0  #: objects that are not images, by their name


def compare(refs: Sequence[ImageRef], rows: Sequence[LedgerImage]) -> Compared:
    """Compare the objects and the images of one range of keys. Pure."""
    missing, changed, unscored = list[ImageRef](), list[ImageRef](), list[tuple[ImageRef, LedgerImage]]()
    unchanged = waiting = newer = skipped = 0
    left = {row.key: row for row in rows}
    for ref in refs:
        row = left.pop(ref.key, None)
        if is_no_image(ref.key):
            skipped += 1
        elif row is None:
            missing.append(ref)
        elif not _is_same(ref, row):
            changed.append(ref)
        elif row.has_result:
            unchanged += 1
        elif row.waits:
            waiting += 1
        else:
            unscored.append((ref, row))
    newer += sum(row.is_recent for row in left.values())
    deleted = [row for row in left.values() if not row.is_recent]
    return Compared(missing, changed, unscored, deleted, unchanged, waiting, newer, skipped)


def _is_same(ref: ImageRef, row: LedgerImage) -> bool:
    """Return whether both are the same bytes. An inventory without ETags has only the time to tell."""
    if ref.etag:
        return ref.etag == row.etag
    return ref.last_modified is None or row.observed_at is None or ref.last_modified <= row.observed_at


class Reconciler:
    """Works on reconciliations, one process at a time on each. `progress` is called after each step."""

    def __init__(
        self,
        engine: Engine,
        store: ObjectStore,
        doorbell: Doorbell,
        settings: Settings,
        stopping: threading.Event,
        *,
        progress: Callable[[Reconciliation], None] = lambda _: None,
    ) -> None:
        self._engine, self._store, self._doorbell = engine, store, doorbell
        self._settings, self._stopping, self._progress = settings, stopping, progress

    def work_on(self, row_id: str) -> None:
        """Run a reconciliation that waits for it, as a worker does. An outage postpones it; the feeder rings again."""
        try:
            self.run(UUID(row_id))
        except Unavailable as error:
            log.warning("reconciliation_postponed", reconciliation=row_id, error=str(error))
        except LeaseLost as error:
            log.info("reconciliation_taken_over", reconciliation=row_id, error=str(error))

    def run(self, row_id: UUID) -> Reconciliation:
        """Go on with a reconciliation until it ends; return it. One that another process works on is returned as is.

        A bucket that cannot be listed fails it, with one line. Raises `Unavailable`, which ends the lease, so that any
        process may go on, also once `stopping` is set; and `LeaseLost`.
        """
        r = self._commit(lambda c: start_reconciliation(c, row_id, self._settings.lease_seconds))
        if r is None:
            return self._commit(lambda c: read_reconciliation(c, row_id))
        try:
            self._work(r)
        except (ConfigurationError, InvalidRequest, NotFound) as error:
            self._fail(r, str(error))
        except (Unavailable, KeyboardInterrupt):
            self._release(r)
            raise
        return self._commit(lambda c: read_reconciliation(c, row_id))

    def _work(self, r: Reconciliation) -> None:
        while r.attempt == 1 and self._commit(lambda c: comparison.delete_old_rows(c, r)):
            self._save(r)
        if r.state is ReconciliationState.LOADING:
            r = self._load(r, S3Inventory(within(self._store, Grants.of(r.grants)), parse_s3(r.inventory or "")))
        if r.state is ReconciliationState.COMPARING:
            r = self._compare_all(r)
        if not r.dry_run:
            r = self._mark_all(r)
        while r.inventory and self._commit(lambda c: comparison.delete_old_rows(c, r)):
            self._save(r)

        def end(c: Connection) -> None:
            complete_reconciliation(c, r)
            comparison.end_job(c, read_reconciliation(c, r.id))

        self._commit(end)

    def _after_step(self, r: Reconciliation) -> None:
        """Show the progress. Raises `Unavailable` where this process is told to stop: another one goes on."""
        self._progress(r)
        if self._stopping.is_set():
            raise Unavailable("this process is stopping")

    # Loading an inventory

    def _load(self, r: Reconciliation, inventory: S3Inventory) -> Reconciliation:
        """Store the inventory's rows, page by page, then turn to comparing. They are in no order between its files."""
        created_at = inventory.read_manifest()[0].created_at
        if created_at is None:
            raise InvalidRequest(
                f"{inventory.name} has no creationTimestamp", hint="without it, nothing is known to be deleted"
            )
        r = replace(r, as_of=created_at)
        for page in InventorySource(inventory, r.bucket, r.prefix).pages(r.cursor):
            r = self._commit(partial(self._load_page, r=r, page=page))
            self._after_step(r)
        return self._save(replace(r, state=ReconciliationState.COMPARING, cursor=None))

    def _load_page(self, c: Connection, r: Reconciliation, page: SourcePage) -> Reconciliation:
        refs = [ref for ref in page.refs if not ref.key.endswith("/") and probe_id(ref.key) is None]
        n = comparison.stage_objects(c, r, refs)
        counts = r.counts | {"malformed": r.counts.get("malformed", 0) + page.malformed}
        changed = replace(r, cursor=page.cursor, loaded=r.loaded + n, counts=counts)
        save_reconciliation(c, changed, self._settings.lease_seconds)
        return changed

    def _staged_pages(self, r: Reconciliation) -> Iterator[list[ImageRef]]:
        """Yield the inventory's rows after the cursor, in the order of their keys."""
        after = r.cursor
        while page := self._commit(partial(comparison.staged_page, r=r, after=after, limit=STAGED_ROWS)):
            after = page[-1].key
            yield page

    def _check_staged(self, r: Reconciliation) -> None:
        """Raise `ConfigurationError` where the database lost rows of the inventory: objects would look deleted."""
        if r.inventory and self._commit(lambda c: comparison.count_staged(c, r)) != r.loaded:
            raise ConfigurationError("the database crashed and lost rows of the inventory", hint="reconcile again")

    # Comparing

    def _compare_all(self, r: Reconciliation) -> Reconciliation:
        """Compare everything after the cursor, then turn to marking."""
        if r.cursor != _LAST:  # else it was stopped between the last step and the checks
            for page in self._staged_pages(r) if r.inventory else self._pages(r):
                r = self._compare_up_to(r, page, upto=page[-1].key)
            r = self._compare_up_to(r, [], upto=_LAST)
        self._check_share(r)
        self._check_staged(r)
        return self._save(replace(r, state=ReconciliationState.MARKING, cursor=None))

    def _pages(self, r: Reconciliation) -> Iterator[list[ImageRef]]:
        """Yield pages of objects after the cursor. Raises `ConfigurationError` where they are not in order."""
        last = r.cursor or ""
        for page in self._store.list(r.bucket, r.prefix, start_after=r.cursor):
            for ref in page:
                if ref.key <= last:
                    message = f"bucket {r.bucket} is not listed in the order of its keys: {ref.key!r} after {last!r}"
                    raise ConfigurationError(message, hint="this server's buckets cannot be reconciled by a listing")
                last = ref.key
            yield page

    def _compare_up_to(self, r: Reconciliation, refs: Sequence[ImageRef], *, upto: str) -> Reconciliation:
        """Compare the keys after the cursor up to `upto`, in steps of one transaction each."""
        is_last = False
        while not is_last:
            r, refs, is_last, rings = self._commit(partial(self._step, r=r, refs=refs, upto=upto))
            ring_score(self._doorbell, rings)
            self._after_step(r)
        return r

    def _step(
        self, c: Connection, r: Reconciliation, refs: Sequence[ImageRef], upto: str
    ) -> tuple[Reconciliation, Sequence[ImageRef], bool, list[Ring]]:
        """Compare up to `LEDGER_ROWS` images. Returns the objects that are left, and whether the range is finished."""
        before = prefix_end(r.prefix) or _LAST
        rows = comparison.ledger_page(c, r, after=r.cursor or "", upto=upto, before=before, limit=LEDGER_ROWS)
        is_last = len(rows) < LEDGER_ROWS
        end = upto if is_last else rows[-1].key
        here, left = [ref for ref in refs if ref.key <= end], [ref for ref in refs if ref.key > end]
        found, puts, counts = _differences(c, r, compare(here, rows))
        job_id, items = r.job_id, list[int]()
        if puts and not r.dry_run:
            job_id, items = comparison.add_to_job(c, r, puts)
        comparison.note_differences(c, r, found)
        counts |= {"listed": len(here), "ledger": len(rows)}
        changed = replace(
            r,
            cursor=end,
            job_id=job_id,
            counts=r.counts | {name: r.counts.get(name, 0) + n for name, n in counts.items()},
            examples=_with_examples(r.examples, found),
        )
        save_reconciliation(c, changed, self._settings.lease_seconds)
        window, chunk = self._settings.window_items, self._settings.chunk_items
        return changed, left, is_last, ring_now(c, items, window=window, chunk=chunk)

    def _check_share(self, r: Reconciliation) -> None:
        """Raise `ConfigurationError` where more of the ledger's objects are gone than the request permits."""
        deleted, ledger = r.counts.get(Difference.DELETED, 0), r.counts.get("ledger", 0)
        if not r.dry_run and deleted > FEW_DELETED and deleted * 100 > r.max_deleted * ledger:
            raise ConfigurationError(
                f"{deleted} of {ledger} objects are not in the bucket, over {r.max_deleted} %: none was marked deleted",
                hint="check bucket, prefix and endpoint; if they are really deleted: `--max-deleted 100`",
            )

    # Marking

    def _mark_all(self, r: Reconciliation) -> Reconciliation:
        """Mark the deletions that were noted, batch by batch."""

        def read(c: Connection) -> list[NotedDifference]:
            return comparison.next_differences(c, r, Difference.DELETED, after=r.cursor, limit=MARKED_ROWS)

        while noted := self._commit(read):
            gone = self._without_present(r, noted) if r.inventory else noted
            r = self._commit(partial(self._mark, r=r, noted=noted, gone=gone))
            self._after_step(r)
        return r

    def _mark(
        self, c: Connection, r: Reconciliation, noted: Sequence[NotedDifference], gone: Sequence[NotedDifference]
    ) -> Reconciliation:
        n = comparison.mark_deleted(c, r, gone)
        counts = r.counts | {
            "marked": r.counts.get("marked", 0) + n,
            "kept": r.counts.get("kept", 0) + len(noted) - n,
        }
        changed = replace(r, cursor=noted[-1].key, counts=counts)
        save_reconciliation(c, changed, self._settings.lease_seconds)
        return changed

    def _without_present(self, r: Reconciliation, noted: Sequence[NotedDifference]) -> list[NotedDifference]:
        """Return those that the bucket does not hold: an inventory may lack what was new when it was made."""

        def is_gone(key: str) -> bool:
            try:
                self._store.head(r.bucket, key)
            except ObjectGone:
                return True
            except ImageRejected:
                return False
            return False

        with ThreadPoolExecutor(self._settings.fetch_threads, thread_name_prefix="head") as pool:
            are_gone = list(pool.map(is_gone, [row.key for row in noted]))
        return [row for row, gone in zip(noted, are_gone, strict=True) if gone]

    # Transactions

    def _save(self, r: Reconciliation) -> Reconciliation:
        self._commit(lambda c: save_reconciliation(c, r, self._settings.lease_seconds))
        return r

    def _fail(self, r: Reconciliation, message: str) -> None:
        """End it as failed; its job goes on with what was added."""
        log.warning("reconciliation_failed", reconciliation=str(r.id), error=message)

        def fail(c: Connection) -> None:
            fail_reconciliation(c, r, message)
            comparison.end_job(c, read_reconciliation(c, r.id))

        self._commit(fail)

    def _release(self, r: Reconciliation) -> None:
        with suppress(DatabaseUnavailable, LeaseLost):
            self._commit(lambda c: release_reconciliation(c, r))

    def _commit(self, statements: Callable[[Connection], T]) -> T:
        """Run a whole transaction, again where Postgres asks for it. Raises `DatabaseUnavailable`."""

        def attempt() -> T:
            with transaction(self._engine) as c:
                return statements(c)

        return retry_transaction(attempt)


def _differences(
    c: Connection, r: Reconciliation, compared: Compared
) -> tuple[_Found, list[tuple[ImageRef, str | None]], dict[str, int]]:
    """Return the differences that the ledger confirms, what to put into the job, and the counts of everything."""
    failed = comparison.failed_images(c, r, [row.id for _, row in compared.unscored])
    missing = compared.missing + [ref for ref, row in compared.unscored if row.id not in failed]
    expected = comparison.expected_versions(c, r, missing + compared.changed)
    found: _Found = {
        Difference.MISSING: [ref for ref in missing if ref.key in expected],
        Difference.CHANGED: [ref for ref in compared.changed if ref.key in expected],
        Difference.DELETED: compared.deleted,
        Difference.FAILED: [row for _, row in compared.unscored if row.id in failed],
    }
    counts = {
        "unchanged": compared.unchanged,
        "waiting": compared.waiting,
        "newer": compared.newer + len(missing) + len(compared.changed) - len(expected),
        "skipped": compared.skipped,
        **{str(kind): len(subjects) for kind, subjects in found.items()},
    }
    puts = [(ref, expected[ref.key]) for ref in missing + compared.changed if ref.key in expected]
    return found, puts, counts


def _with_examples(examples: dict[str, list[str]], found: _Found) -> dict[str, list[str]]:
    """Return the examples with more keys, up to `MAX_EXAMPLES` of each kind."""
    more = {kind: [subject.key for subject in subjects[:MAX_EXAMPLES]] for kind, subjects in found.items()}
    return {
        str(kind): keys
        for kind in Difference
        if (keys := [*examples.get(kind, []), *more.get(kind, [])][:MAX_EXAMPLES])
    }
