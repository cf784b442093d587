"""Table of the measures of pictures."""

from typing import Any

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, Table
from sqlalchemy.dialects.postgresql import REAL

from dpiqa.storage.tables import metadata


def _number(name: str, comment: str) -> Column[Any]:
    return Column(name, REAL, comment=f"{comment}; NULL: the picture is too small")


#: Beside `images`, whose rows are updated by events, and apart from `scores`: they belong to bytes, not to a scorer.
measures = Table(
    "measures",
    metadata,
    Column("image_id", BigInteger, ForeignKey("images.id"), primary_key=True, autoincrement=False, comment="the image"),
    Column("width", Integer, nullable=False, comment="pixels of the decoded picture"),
    Column("height", Integer, nullable=False, comment="pixels of the decoded picture"),
    _number("sharpness", "0 (blurred or flat) to 1"),
    _number("contrast", "0 to 1"),
    _number("clipped_dark", "share of the pixels that are black, 0 to 1"),
    _number("clipped_bright", "share of the pixels that are white, 0 to 1"),
    _number("noise", "standard deviation of the grain, luma steps of 255"),
    _number("blockiness", "0 or more: steps on JPEG's grid"),
    _number("colour_cast", "0 to about 0.6: distance of the mean colour from grey"),
    comment="measures of decoded pictures, for jobs that ask for details; never changed",
)
