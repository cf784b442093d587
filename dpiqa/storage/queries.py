"""Questions to the ledger. They change nothing; every page is a keyset page."""

from dpiqa.storage.counts import Count, read_counts
from dpiqa.storage.cursors import Page
from dpiqa.storage.job_pages import ItemRow, job_items, list_jobs
from dpiqa.storage.lookup import Lookup, StoredScore, lookup
from dpiqa.storage.presence import Worker, heartbeat, leave, workers
from dpiqa.storage.reports import JobReport, get_job
from dpiqa.storage.score_pages import MAX_LIMIT, ScoreFilter, ScoreRow, Sort, count, percentile, scores

__all__ = [
    "MAX_LIMIT",
    "Count",
    "ItemRow",
    "JobReport",
    "Lookup",
    "Page",
    "ScoreFilter",
    "ScoreRow",
    "Sort",
    "StoredScore",
    "Worker",
    "count",
    "get_job",
    "heartbeat",
    "job_items",
    "leave",
    "list_jobs",
    "lookup",
    "percentile",
    "read_counts",
    "scores",
    "workers",
]
