"""The ledger: what is to be done, who does it, what became of it. Nothing accepted is lost.

Every function works within the caller's transaction and commits nothing. Ring doorbells after the commit.
"""

from dpiqa.storage.feed import Chunks, feed, ring_now
from dpiqa.storage.ingest import add_images, remove_objects
from dpiqa.storage.jobs import create_job, finish_jobs, read_job, read_profile
from dpiqa.storage.lease import claim, renew
from dpiqa.storage.listing import LeaseLost, fail_listing, finish_listing, save_cursor, start_listing, unlisted_jobs
from dpiqa.storage.outcomes import Changed, Failed, Gone, Outcome, Postponed, Rejected, Release, Scored
from dpiqa.storage.presence import heartbeat, leave
from dpiqa.storage.record import record
from dpiqa.storage.rows import Claim, Job, Recorded
from dpiqa.storage.watch import ensure_watch, find_watches

__all__ = [
    "Changed",
    "Chunks",
    "Claim",
    "Failed",
    "Gone",
    "Job",
    "LeaseLost",
    "Outcome",
    "Postponed",
    "Recorded",
    "Rejected",
    "Release",
    "Scored",
    "add_images",
    "claim",
    "create_job",
    "ensure_watch",
    "fail_listing",
    "feed",
    "find_watches",
    "finish_jobs",
    "finish_listing",
    "heartbeat",
    "leave",
    "read_job",
    "read_profile",
    "record",
    "remove_objects",
    "renew",
    "ring_now",
    "save_cursor",
    "start_listing",
    "unlisted_jobs",
]
