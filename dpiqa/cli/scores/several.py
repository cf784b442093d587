"""Scores of several models or profiles side by side: a row for each image, columns for each model."""

from collections.abc import Sequence
from typing import Any

import typer

from dpiqa.cli.support import console
from dpiqa.cli.support.output import Output
from dpiqa.cli.support.progress import duration
from dpiqa.exit_codes import ExitCode
from dpiqa.exports.schemas import FILES, OBJECTS, by_model
from dpiqa.models.choice import ModelChoice
from dpiqa.pipeline.local_run import ScoredObject
from dpiqa.profiles import Profile
from dpiqa.settings import Settings

_TABLE_ROWS = 25


def name_of(scored_by: Profile | ModelChoice) -> str:
    """Return the name under which columns show a model or a profile."""
    return scored_by.id if isinstance(scored_by, Profile) else str(scored_by)


def as_row(image: ScoredObject) -> dict[str, Any]:
    """Return one image as JSON and files show it: `path`, or `bucket` and `key`, then its outcome."""
    return _address(image) | {
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


def address_of(image: ScoredObject) -> str:
    """Return the path or S3 address."""
    return f"s3://{image.ref.bucket}/{image.ref.key}" if image.ref.bucket else image.ref.key


def _address(image: ScoredObject) -> dict[str, str]:
    return {"bucket": image.ref.bucket, "key": image.ref.key} if image.ref.bucket else {"path": image.ref.key}


def as_wide_row(names: Sequence[str], images: Sequence[ScoredObject]) -> dict[str, Any]:
    """Return one image under several models as JSON and files show it."""
    address = _address(images[0])
    row: dict[str, Any] = dict(address)
    for name, image in zip(names, images, strict=True):
        row |= {f"{name}.{column}": value for column, value in as_row(image).items() if column not in address}
    return row


def show_several(
    shown: Output, names: Sequence[str], rows: Sequence[Sequence[ScoredObject]], seconds: float, settings: Settings
) -> None:
    """Write, or print, the scores of several models. Raises `typer.Exit` if one of them did not score an image."""
    schema = by_model(OBJECTS if rows and rows[0][0].ref.bucket else FILES, names)
    if shown.to:
        shown.export(schema, iter([schema.columns_of([as_wide_row(names, images) for images in rows])]), settings)
    elif shown.as_json:
        console.print_json_array(schema.id, (as_wide_row(names, images) for images in rows))
    else:
        _show_table(names, rows)
    scored = [sum(row[index].score is not None for row in rows) for index in range(len(names))]
    counts = ", ".join(f"{name} {n}" for name, n in zip(names, scored, strict=True))
    rate = f"{len(rows) / seconds:.1f}/s" if seconds > 0 else ""
    console.note(f"{len(rows)} images in {duration(seconds)}, {rate}, models loaded included; scored: {counts}.")
    if any(n < len(rows) for n in scored):
        raise typer.Exit(ExitCode.INCOMPLETE)


def _show_table(names: Sequence[str], rows: Sequence[Sequence[ScoredObject]]) -> None:
    """Print a column for each model, the worst image by the first of them at the top."""

    def rank(images: Sequence[ScoredObject]) -> tuple[bool, float, str]:
        first = images[0]
        score = first.score or 0.0
        return first.score is None, -score if first.lower_is_better else score, first.ref.key

    cells = [
        (address_of(images[0]), *(_cell(image) for image in images)) for images in sorted(rows, key=rank)[:_TABLE_ROWS]
    ]
    more = f", the first {_TABLE_ROWS} of {len(rows)}" if len(rows) > _TABLE_ROWS else ""
    console.table(("image", *names), cells, title=f"worst first by {names[0]}{more}")


def _cell(image: ScoredObject) -> str:
    if image.score is None:
        return str(image.reason)
    return f"{image.score:.3f} {image.band or ''}".rstrip()
