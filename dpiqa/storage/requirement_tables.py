"""Tables of requirements. No transaction locks rows of these and of `tables.py`."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from dpiqa.storage.columns import counter_column, enum_column, finite, time_column
from dpiqa.storage.tables import metadata
from dpiqa.types import Direction, RequirementState

requirements = Table(
    "requirements",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="named by doorbell messages"),
    Column("name", Text, nullable=False, comment="chosen by the user"),
    Column("version", Integer, nullable=False, comment="numbered from 1 per name"),
    enum_column("direction", Direction, "which end of its scale is better", check=True),
    Column("model", Text, nullable=False, comment="name of the model that it was, or is to be, checked with"),
    Column("force", Boolean, nullable=False, comment="whether pairs that contradict each other are accepted"),
    enum_column("state", RequirementState, "written by the worker that prepares it", check=True),
    Column("request_hash", Text, nullable=False, comment="SHA-256 (hex) of pairs, direction, model and force"),
    Column("content_hash", Text, comment="SHA-256 (hex) of the images' bytes, scores and direction; set when ready"),
    Column("error", Text, comment="why it was refused"),
    time_column("created_at", "when it was requested", now=True),
    time_column("finished_at", "when it became ready or was refused; NULL before"),
    time_column("lease_until", "end of the lease of the worker that prepares it; NULL: none does"),
    counter_column("attempt", "fence of the worker that prepares it: each start adds 1"),
    counter_column("crashes", "workers that died while they prepared it"),
    UniqueConstraint("name", "version"),
    CheckConstraint("(state = 'pending') = (finished_at IS NULL)", name="finished"),
    CheckConstraint("(state = 'ready') = (content_hash IS NOT NULL)", name="content"),
    CheckConstraint("(state = 'refused') = (error IS NOT NULL)", name="error"),
    CheckConstraint("state = 'pending' OR lease_until IS NULL", name="lease"),
    comment="versions of requirements; never overwritten",
)
Index(
    "requirements_pending",
    requirements.c.created_at,
    postgresql_where=requirements.c.state == RequirementState.PENDING,
)
Index(
    "requirements_one_content",
    requirements.c.name,
    requirements.c.content_hash,
    unique=True,
    postgresql_where=requirements.c.state == RequirementState.READY,
)

requirement_pairs = Table(
    "requirement_pairs",
    metadata,
    Column("requirement_id", BigInteger, ForeignKey("requirements.id"), primary_key=True, comment="the requirement"),
    Column("position", Integer, primary_key=True, autoincrement=False, comment="order in the request, from 1"),
    Column("path", Text, nullable=False, comment="absolute path, or s3://bucket/key"),
    Column("score", Double, nullable=False, comment="score that the image deserves, 0 to 1"),
    Column("sha256", Text, comment="SHA-256 (hex) of the bytes that were read; NULL before"),
    CheckConstraint("score >= 0 AND score <= 1", name="score"),
    comment="image-score pairs of a requirement",
)

#: Prompt features of a requirement, per checkpoint: computed once, used for every image.
requirement_features = Table(
    "requirement_features",
    metadata,
    Column("requirement_id", BigInteger, ForeignKey("requirements.id"), primary_key=True, comment="the requirement"),
    Column("scorer_id", Text, primary_key=True, comment="scorer id of the checkpoint, without a requirement"),
    Column("features", LargeBinary, nullable=False, comment="pairs x width, float32, little-endian"),
    Column("width", Integer, nullable=False, comment="numbers per pair"),
    Column("loo_srcc", Double, comment="leave-one-out SRCC; NULL where all left-out images are scored alike"),
    Column("loo_mae", Double, nullable=False, comment="leave-one-out mean absolute error, scale 0 to 1"),
    Column("loo_scores", ARRAY(Double), nullable=False, comment="leave-one-out scores, by position"),
    Column("contradictions", JSONB, nullable=False, comment="one sentence each; empty unless forced"),
    time_column("made_at", "when they were computed", now=True),
    finite("loo_mae"),
    comment="prompt features of a requirement by one checkpoint, written by the worker that prepares it",
)
