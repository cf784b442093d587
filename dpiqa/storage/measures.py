"""Measures of pictures: asked for with a job, stored with the first score of an image, read beside its scores.

They belong to the bytes of an image: whichever profile or job scored it, there is one row, and it never changes.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Connection, Integer, Row, any_, bindparam, select, text, update
from sqlalchemy.dialects.postgresql import REAL

from dpiqa.imaging.measured import MEASURE_NAMES, Measures
from dpiqa.storage.columns import array, arrays
from dpiqa.storage.items import Scored
from dpiqa.storage.measure_tables import measures
from dpiqa.storage.tables import jobs

REQUEST_DETAILS = update(jobs).where(jobs.c.id == bindparam("of_job"), ~jobs.c.details).values(details=True)
# Stores the measures of images that have none; returns nothing. Raw: each row gets values of its own.
INSERT_MEASURES = text(
    """
    INSERT INTO measures (image_id, width, height, sharpness, contrast, clipped_dark, clipped_bright, noise, blockiness,
        colour_cast)
    SELECT * FROM unnest(:image_id, :width, :height, :sharpness, :contrast, :clipped_dark, :clipped_bright, :noise,
        :blockiness, :colour_cast) AS new (image_id)
    ORDER BY image_id
    ON CONFLICT DO NOTHING
    """
).bindparams(
    *arrays(
        image_id=BigInteger, width=Integer, height=Integer, sharpness=REAL, contrast=REAL, clipped_dark=REAL,
        clipped_bright=REAL, noise=REAL, blockiness=REAL, colour_cast=REAL,
    )
)  # fmt: skip
#: In the order of `MEASURE_NAMES`, after the image's id.
MEASURES_OF_IMAGES = select(measures).where(measures.c.image_id == any_(array("ids", BigInteger)))


def request_details(c: Connection, job_id: UUID) -> None:
    """Have the images of a job, or those that a watch is told of from now on, measured. May be repeated."""
    c.execute(REQUEST_DETAILS, {"of_job": job_id})


def store_measures(c: Connection, scored: Iterable[Scored]) -> None:
    """Store the measures that outcomes have; those of images that were measured before are dropped."""
    new = {outcome.claim.image_id: outcome.measures.as_row() for outcome in scored if outcome.measures is not None}
    if new:
        columns = {name: [row[name] for row in new.values()] for name in MEASURE_NAMES}
        c.execute(INSERT_MEASURES, {"image_id": list(new), **columns})


def read_measures(c: Connection, image_ids: Sequence[int]) -> dict[int, Measures]:
    """Return the measures of images, by id; images that were not measured are left out."""
    if not image_ids:
        return {}
    rows = c.execute(MEASURES_OF_IMAGES, {"ids": sorted(set(image_ids))})
    return {row.image_id: as_measures(row) for row in rows}


def as_measures(row: Row[Any]) -> Measures:
    """Read a row of `measures`; NULL is NaN."""
    values: dict[str, Any] = {name: row._mapping[name] for name in MEASURE_NAMES}
    missing = dict.fromkeys((name for name, value in values.items() if value is None), math.nan)
    return Measures(**values | missing)
