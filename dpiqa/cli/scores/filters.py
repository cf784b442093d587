"""Options that select scores, of `dpiqa scores` and `dpiqa stats`."""

from typing import Annotated, Any

import typer

from dpiqa.cli.support.options import complete_model, parse_time
from dpiqa.storage.score_filter import ScoreFilter
from dpiqa.types import ResultStatus, Route

BucketOption = Annotated[str | None, typer.Option(help="Only this bucket.")]
PrefixOption = Annotated[str | None, typer.Option(help="Only keys that begin with this; needs a bucket or a job.")]
MinOption = Annotated[float | None, typer.Option("--min", help="Minimum score (inclusive).")]
MaxOption = Annotated[float | None, typer.Option("--max", help="Maximum score (inclusive).")]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", "-m", help="Only scores of this model, or scorer id.", autocompletion=complete_model),
]
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
    str | None,
    typer.Option(
        help="Only scores made or changed at this time or later: 2026-05-17, with a time (UTC), or an age: 30d."
    ),
]
UntilOption = Annotated[str | None, typer.Option(help="Only scores last changed before this time.")]


def score_filter(*, of_job: bool, since: str | None, until: str | None, **fields: Any) -> ScoreFilter:
    """Return the filter that options select, without job and profile. Raises `InvalidRequest`."""
    conditions = ScoreFilter(since=parse_time("--since", since), until=parse_time("--until", until), **fields)
    conditions.check("--{}", of_job=of_job)
    return conditions
