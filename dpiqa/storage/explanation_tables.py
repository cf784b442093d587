"""Table of explanations: which regions of an image move its score, made on request and kept for a while."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Identity,
    Index,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import ARRAY

from dpiqa.storage.columns import counter_column, enum_column, time_column
from dpiqa.storage.tables import metadata
from dpiqa.types import ExplanationState

explanations = Table(
    "explanations",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="named by doorbell messages"),
    Column("image_id", BigInteger, ForeignKey("images.id"), nullable=False, comment="the version of the object"),
    Column("profile", Text, nullable=False, comment="id of the profile whose student is explained"),
    enum_column("state", ExplanationState, "written by the worker that makes it", check=True),
    Column("scorer_id", Text, comment="the student; set when it is ready"),
    Column("score", Double, comment="of the whole image by the student; set when it is ready"),
    Column("effect", ARRAY(Double), comment="8 x 8 cells, rows from the top: effect on the score; set when ready"),
    Column("error", Text, comment="why it cannot be made, in one line"),
    time_column("created_at", "when it was requested", now=True),
    time_column("finished_at", "when it was ready or given up; NULL before"),
    time_column("lease_until", "end of the lease of the worker that makes it; NULL: none does"),
    counter_column("attempt", "fence of the worker that makes it: each start adds 1"),
    counter_column("crashes", "workers that died while they made it"),
    UniqueConstraint("image_id", "profile"),
    CheckConstraint("(state = 'pending') = (finished_at IS NULL)", name="finished"),
    CheckConstraint("(state = 'ready') = (effect IS NOT NULL)", name="effect"),
    comment="effects of the regions of images on their scores; removed a week after they were requested",
)
Index(
    "explanations_pending",
    explanations.c.created_at,
    postgresql_where=explanations.c.state == ExplanationState.PENDING,
)
