"""Options that select scores, of `dpiqa scores` and `dpiqa stats`."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from dpiqa.errors import InvalidRequest
from dpiqa.storage.score_filter import ScoreFilter
from dpiqa.types import ResultStatus, Route

BucketOption = Annotated[str | None, typer.Option(help="Only this bucket.")]
PrefixOption = Annotated[str | None, typer.Option(help="Only keys that begin with this; needs a bucket or a job.")]
MinOption = Annotated[float | None, typer.Option("--min", help="Minimum score (inclusive).")]
MaxOption = Annotated[float | None, typer.Option("--max", help="Maximum score (inclusive).")]
ModelOption = Annotated[str | None, typer.Option("--model", "-m", help="Only scores of this model, or scorer id.")]
StatusOption = Annotated[ResultStatus | None, typer.Option(help="Only provisional or final scores.")]
RequirementOption = Annotated[
    str | None,
    typer.Option("--requirement", "-r", help="Only scores of jobs with this requirement: NAME or NAME@VERSION."),
]
SuffixOption = Annotated[
    str | None, typer.Option(help="Only keys that end in this, e.g. .png; needs a bucket or a job.")
]
RouteOption = Annotated[
    Route | None, typer.Option(help="Only images that were, or were not, sent to the teacher for this reason.")
]
SinceOption = Annotated[
    str | None, typer.Option(help="Only scores made or changed at this time or later: 2026-05-17, or with a time; UTC.")
]
UntilOption = Annotated[str | None, typer.Option(help="Only scores last changed before this time.")]


def score_filter(*, of_job: bool, since: str | None, until: str | None, **fields: Any) -> ScoreFilter:
    """Return the filter that options select, without job and profile. Raises `InvalidRequest`."""
    conditions = ScoreFilter(since=_read_time("since", since), until=_read_time("until", until), **fields)
    conditions.check("--{}", of_job=of_job)
    return conditions


def _read_time(name: str, value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        raise InvalidRequest(
            f"--{name} {value!r} is not a time", hint="write for example 2026-05-17 or 2026-05-17T18:30"
        ) from None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
