"""A bucket and a ledger to be reconciled."""

import threading

from dpiqa.addresses import S3Address
from dpiqa.events import Parsed
from dpiqa.objects.s3 import S3Store
from dpiqa.pipeline.ingest import ingest
from dpiqa.pipeline.reconciler import Reconciler
from dpiqa.profiles import load_profile
from dpiqa.settings import load_settings
from dpiqa.storage.engine import transaction
from dpiqa.storage.profiles import remember_profile
from dpiqa.storage.reconciliations import ReconciliationRequest, request_reconciliation


class Side:
    """A bucket and a ledger, and the calls that the tests repeat."""

    def __init__(self, archive, s3):
        self.archive, self.s3, self.rows = archive, s3, archive.rows
        self.store = S3Store.from_settings(load_settings(**s3.settings))
        self.profile = load_profile("smoke")
        with transaction(archive.engine) as c:
            remember_profile(c, self.profile)

    def request(self, prefix="", **options):
        with transaction(self.archive.engine) as c:
            address = S3Address(self.s3.name, prefix)
            return request_reconciliation(c, ReconciliationRequest(address=address, profile=self.profile.id, **options))

    def reconciler(self, store=None, **options):
        a = self.archive
        return Reconciler(a.engine, store or self.store, a.doorbell, a.settings, threading.Event(), **options)

    def reconcile(self, prefix="", store=None, **options):
        return self.reconciler(store).run(self.request(prefix, **options).id)

    def announce(self):
        """Send the event of everything in the bucket."""
        images = [ref for page in self.store.list(self.s3.name, "") for ref in page]
        ingest(self.archive.engine, self.archive.doorbell, [Parsed(images)], self.archive.settings, self.profile)

    def score_all(self):
        worker = self.archive.worker()
        worker.store = worker._preparer._store = self.store
        ids = [row.id for row in self.rows("SELECT id FROM items WHERE state = 'queued'")]
        worker.score(ids)
        return self.rows("SELECT count(*) FROM results WHERE current")[0][0]


def counted(r, *names):
    return [r.counts.get(name, 0) for name in names]
