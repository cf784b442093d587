"""`python -m dpiqa.workers`: a worker with a pool of threads, as `celery -A dpiqa.workers.app worker -P threads`.

Celery's command line loads the commands of all its plugins, Flower among them, for .4 s of processor time.
"""

import argparse
import sys

from dpiqa.process_tuning import without_collections

with without_collections():
    from celery.concurrency.thread import TaskPool
    from celery.utils.nodenames import default_nodename, host_format

    from .app import app


def main() -> int:
    """Work until a signal. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m dpiqa.workers", description=__doc__)
    parser.add_argument("--queues", required=True, help="names of queues, separated by commas")
    parser.add_argument("--concurrency", type=int, required=True, help="number of threads")
    parser.add_argument("--hostname", help="name of this worker, unique on this host; %%h is the host's")
    options = parser.parse_args()
    worker = app.Worker(
        pool_cls=TaskPool,
        concurrency=options.concurrency,
        queues=options.queues,
        hostname=host_format(default_nodename(options.hostname)),
        loglevel=app.settings.log_level,
        quiet=True,
        # Workers need not know each other, and a start need not wait for replies.
        without_gossip=True,
        without_mingle=True,
    )
    worker.start()
    return int(worker.exitcode or 0)


if __name__ == "__main__":
    sys.exit(main())
