"""Tables of uploads: the rows of a manifest that no worker can read where they are, kept until they are listed.

Lock order: `uploads` before `jobs`, `upload_pages` after `uploads`. The other tables are in `tables.py`.
"""

from sqlalchemy import Column, ForeignKey, Index, Integer, LargeBinary, Table, Text, Uuid

from dpiqa.storage.columns import counter_column, time_column
from dpiqa.storage.tables import metadata

uploads = Table(
    "uploads",
    metadata,
    Column("id", Uuid, primary_key=True, comment="named by jobs.source"),
    Column("request_hash", Text, nullable=False, comment="SHA-256 (hex) of the request and of the first page"),
    Column("job_id", Uuid, ForeignKey("jobs.id"), comment="the job that was made of it; NULL: still being uploaded"),
    counter_column("fence", "each command that begins or continues the upload adds 1, and only the last may write"),
    time_column("created_at", "when its first page arrived", now=True),
    time_column("seen_at", "when its last page arrived", now=True),
    comment="manifests that were uploaded from a disk, a pipe or a request; deleted once they are listed",
)
Index(
    "uploads_one_request",
    uploads.c.request_hash,
    unique=True,
    postgresql_where=uploads.c.job_id.is_(None),
)
Index("uploads_job", uploads.c.job_id)

upload_pages = Table(
    "upload_pages",
    metadata,
    Column("upload_id", Uuid, ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True, comment="the upload"),
    Column("position", Integer, primary_key=True, autoincrement=False, comment="order in the manifest, from 1"),
    Column("digest", LargeBinary, nullable=False, comment="SHA-256 of the uncompressed objects"),
    Column("objects", LargeBinary, nullable=False, comment="some thousand objects: JSON columns, compressed by zlib"),
    comment="objects of uploads, written by the command or request, read by the lister",
)
