"""The table of people's labels. Lock order: its rows come after those of `tables.py`, by image."""

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

from dpiqa.storage.columns import enum_column, time_column
from dpiqa.storage.tables import metadata
from dpiqa.types import Verdict

labels = Table(
    "labels",
    metadata,
    Column("label_set", Text, primary_key=True, comment="name of the set that it belongs to"),
    Column("image_id", BigInteger, ForeignKey("images.id"), primary_key=True, comment="the image that was looked at"),
    enum_column("verdict", Verdict, "what the person decided", check=True),
    Column("draw", JSONB(none_as_null=True), comment="what the image was drawn from at random; NULL: it was chosen"),
    Column("labelled_by", Text, nullable=False, comment="name of the key, bootstrap, local, or cli"),
    time_column("labelled_at", "when it was labelled last", now=True),
    comment="verdicts of people about images, for choosing cut-offs",
)
Index("labels_of_image", labels.c.image_id)
