"""Rows of `dpiqa score`: an image under one model, or under several side by side, as JSON, files and tables show it."""

from collections.abc import Sequence
from typing import Any

from dpiqa.addresses import object_address
from dpiqa.exports.growing import Row
from dpiqa.exports.schemas import FILES, OBJECTS, Schema, by_model
from dpiqa.models.choice import ModelChoice
from dpiqa.pipeline.local_run import ScoredObject
from dpiqa.profiles import Profile
from dpiqa.types import Direction


def name_of(scored_by: Profile | ModelChoice) -> str:
    """Return the name under which columns show a model or a profile."""
    return scored_by.id if isinstance(scored_by, Profile) else str(scored_by)


def schema_of(scored_by: Sequence[Profile | ModelChoice], *, in_s3: bool, details: bool) -> Schema:
    """Return the schema of the rows of a run."""
    schema = OBJECTS if in_s3 else FILES
    schema = schema.with_details() if details else schema
    return schema if len(scored_by) == 1 else by_model(schema, [name_of(by) for by in scored_by])


def as_row(names: Sequence[str], images: Sequence[ScoredObject]) -> Row:
    """Return one image, under one model or under each of several, as a row of the run's schema."""
    ref = images[0].ref
    row: Row = {"bucket": ref.bucket, "key": ref.key, "etag": ref.etag} if ref.bucket else {"path": ref.key}
    row |= {"size": ref.size, "modified": ref.last_modified}
    if (measures := images[0].measures) is not None:
        row |= measures.as_row()
    for name, image in zip(names, images, strict=True):
        values = _outcome(image)
        row |= values if len(names) == 1 else {f"{name}.{column}": value for column, value in values.items()}
    return row


def _outcome(image: ScoredObject) -> dict[str, Any]:
    return {
        "state": image.state,
        "score": image.score,
        "scale": image.scale,
        "percentile": image.percentile,
        "band": image.band,
        "model": image.model,
        "scorer_id": image.scorer_id,
        "stage": image.stage,
        "route": image.route,
        "reason": image.reason,
        "detail": image.detail or None,
    }


#: Heading of a table -> measure; their order is that of what is left out last.
MEASURE_HEADINGS = {
    "sharpness": "sharpness",
    "contrast": "contrast",
    "dark": "clipped_dark",
    "bright": "clipped_bright",
    "noise": "noise",
    "blocks": "blockiness",
    "cast": "colour_cast",
}


def measure_words(row: Row) -> str:
    """Return the measures of a row in one line; empty where it has none."""
    if row.get("width") is None:
        return ""
    words = [f"{row['width']}x{row['height']} pixels"]
    for heading, name in MEASURE_HEADINGS.items():
        if (value := row[name]) is not None:
            words.append(f"{heading} {value:.0%}" if name.startswith("clipped") else f"{heading} {value:.2f}")
    return ", ".join(words)


def address_of(row: Row) -> str:
    """Return the path or S3 address of a row."""
    return object_address(row["bucket"], row["key"]) if "bucket" in row else str(row["path"])


def rank(row: Row, prefix: str = "") -> float:
    """Return a number that orders rows with a score, the worst first, whichever end of the scale that is.

    `prefix`: of the model's columns, `NAME.`.
    """
    score: float = row[f"{prefix}score"]
    return -score if Direction.LOWER in (row[f"{prefix}scale"] or "") else score
