"""Table of the buckets that are postponed."""

from sqlalchemy import Column, Integer, Table, Text

from dpiqa.storage.columns import time_column
from dpiqa.storage.tables import metadata

postponed_buckets = Table(
    "postponed_buckets",
    metadata,
    Column("bucket", Text, primary_key=True, comment="a bucket whose latest fetches failed"),
    Column("times", Integer, nullable=False, comment="tries in a row that failed; each doubles the delay"),
    Column("detail", Text, nullable=False, comment="the last error in words, up to 500 characters"),
    time_column("since", "when it was postponed first", now=True),
    time_column("until", "when it is tried again, by single fetches", now=True),
    comment="buckets that no worker reads for a while, written by workers; a row ends when tries succeed",
)
