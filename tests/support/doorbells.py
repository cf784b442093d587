"""A doorbell that records what was rung."""

from dpiqa.errors import BrokerUnavailable


class RecordingDoorbell:
    """See `dpiqa.doorbell.Doorbell`."""

    def __init__(self):
        self.rings = []  #: (queue, item ids)
        self.jobs = []
        self.requirements = []
        self.reconciliations = []
        self.reports = []
        self.explanations = []
        self.broken = False

    def score(self, queue, item_ids):
        """Record a ring."""
        self._check()
        self.rings.append((queue, list(item_ids)))

    def expand(self, job_id):
        """Record a job."""
        self._check()
        self.jobs.append(job_id)

    def prepare(self, requirement):
        """Record a requirement."""
        self._check()
        self.requirements.append(requirement)

    def reconcile(self, reconciliation):
        """Record a reconciliation."""
        self._check()
        self.reconciliations.append(reconciliation)

    def explain(self, explanation):
        """Record an explanation."""
        self._check()
        self.explanations.append(explanation)

    def report(self, report):
        """Record a report."""
        self._check()
        self.reports.append(report)

    def check(self):
        """Answer."""
        self._check()

    def depth(self, queue):
        """Return 0: nothing waits."""
        self._check()
        return 0

    def rung(self, queue):
        """Return the items that were rung on a queue."""
        return [item for name, items in self.rings for item in items if name == queue]

    def _check(self):
        if self.broken:
            raise BrokerUnavailable("the broker does not answer")
