"""`dpiqa score`: files, folders or objects, scored in this process."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.errors import InvalidRequest
from dpiqa.exit_codes import ExitCode
from dpiqa.types import Precision

if TYPE_CHECKING:
    from dpiqa.models.choice import ModelChoice
    from dpiqa.pipeline.local_run import ScoredObject
    from dpiqa.pipeline.preparer import Reader
    from dpiqa.profiles import Profile
    from dpiqa.settings import Settings
    from dpiqa.types import ImageRef

Targets = Annotated[
    list[str],
    typer.Argument(help="Files, folders (searched recursively) or s3://bucket/prefix.", metavar="PATH|S3_ADDRESS..."),
]
Model = Annotated[str | None, typer.Option("--model", "-m", help="One model by name (`dpiqa models list`).")]
Limit = Annotated[int | None, typer.Option("--limit", "-n", min=1, help="Score only the first N images.")]
Requirement = Annotated[
    str | None,
    typer.Option("--requirement", "-r", help="Score by this requirement: NAME (its newest version) or NAME@VERSION."),
]
ChosenPrecision = Annotated[
    Precision | None, typer.Option("--precision", help="Arithmetic of --model; its card's by default.")
]
ChannelsLast = Annotated[
    bool | None,
    typer.Option("--channels-last/--no-channels-last", help="Memory format of --model; its card's by default."),
]
Worst = Annotated[
    str | None,
    typer.Option(help="Show only images as bad as the worst share of the reference population, e.g. 5%."),
]
Best = Annotated[str | None, typer.Option(help="Show only images as good as its best share, likewise.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N; DPIQA_DEVICE by default.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "score",
        "dpiqa score ~/Pictures",
        "dpiqa score photo.jpg --model bundled-student --json",
        "dpiqa score ~/Pictures --model bundled-student --precision bfloat16",
        "dpiqa score ~/Pictures --requirement portraits",
        "dpiqa score ~/Pictures --worst 5% --output worst.csv",
        "dpiqa score s3://photos/2024/ --profile default --output scores.csv",
    )(score)


def score(  # noqa: PLR0913 - one parameter per option
    targets: Targets,
    *,
    model: Model = None,
    requirement: Requirement = None,
    precision: ChosenPrecision = None,
    channels_last: ChannelsLast = None,
    profile: options.ProfileName = None,
    worst: Worst = None,
    best: Best = None,
    limit: Limit = None,
    device: Device = None,
    as_json: options.Json = False,
    output: options.Output = None,
) -> None:
    """Score images in this process: no queue, no database. For a folder or a quick look.

    With a profile (the default), its student scores every image and its teacher the borderline ones; with --model or
    --requirement (which is read from the database), that one scores all. Ends with 1 when an image was not scored.

    Percentiles, bands and --worst compare with the reference population of the model's card (`dpiqa models show`), not
    with the other images: 5% may be none or all of them. Images without a score are shown in any case.
    """
    from dpiqa.cli.scores.share import images_in, require_references
    from dpiqa.cli.scores.summary import show_summary
    from dpiqa.cli.support.output import check_output, write_rows
    from dpiqa.percentiles import parse_share

    options_of_model = {"precision": precision, "channels_last": channels_last}
    _check_options(model, requirement, profile, options_of_model)
    if output:
        check_output(output)
    started = time.monotonic()
    settings = context.settings(profile=profile, device=device)
    choice = _choose(settings, model, requirement, options_of_model) if model or requirement else None
    by = choice or context.profile(settings)
    share = parse_share(worst, best, field="--{}")
    if share:
        require_references(settings, by)
    results = _run(settings, targets, by, limit)
    elapsed = time.monotonic() - started
    shown = images_in(share, results) if share else results
    if output:
        console.note(f"{write_rows(output, _columns(as_row(results[0])), map(as_row, shown))} rows in {output}")
    if as_json:
        console.print_json_array(map(as_row, shown))
    else:
        show_summary(results, elapsed, shown=() if output else shown)
    if any(one.score is None for one in results):
        raise typer.Exit(ExitCode.INCOMPLETE)


def as_row(one: "ScoredObject") -> dict[str, Any]:
    """One image as JSON and files show it: `path`, or `bucket` and `key`, then what became of it."""
    where = {"bucket": one.ref.bucket, "key": one.ref.key} if one.ref.bucket else {"path": one.ref.key}
    return where | {
        "state": one.state,
        "score": one.score,
        "scale": one.scale,
        "percentile": one.percentile,
        "band": one.band,
        "model": one.model,
        "scorer_id": one.scorer_id,
        "stage": one.stage,
        "route": one.route,
        "reason": one.reason,
        "detail": one.detail or None,
    }


def _columns(row: dict[str, Any]) -> dict[str, type]:
    return {name: float if name in {"score", "percentile"} else str for name in row}


def _check_options(model: str | None, requirement: str | None, profile: str | None, options: dict[str, Any]) -> None:
    """Raise `InvalidRequest` for options that contradict each other."""
    one = "--model" if model else "--requirement"
    if profile and (model or requirement):
        raise InvalidRequest(f"{one} and --profile exclude each other", hint="give one of them")
    if not (model or requirement) and any(value is not None for value in options.values()):
        raise InvalidRequest(
            "--precision and --channels-last need --model", hint="name the model; profiles name theirs"
        )


def _choose(settings: "Settings", model: str | None, requirement: str | None, options: dict[str, Any]) -> "ModelChoice":
    """Return the choice that the options make; a requirement without --model brings its own."""
    from dpiqa.models.choice import parse_choice
    from dpiqa.pipeline.scorers import database_of
    from dpiqa.storage.profiles import choose

    if requirement and not model:
        with database_of(settings) as connection:
            own = choose(connection, requirement)
        model, requirement = own.model, own.requirement
    return parse_choice(model=model, requirement=requirement, **options)


def _run(
    settings: "Settings", targets: Sequence[str], by: "Profile | ModelChoice", limit: int | None
) -> "list[ScoredObject]":
    """Score the targets by a profile or one model. Raises before any image is fetched for a model that cannot run."""
    from dpiqa.cli.support.progress import counting
    from dpiqa.models.choice import ModelChoice
    from dpiqa.pipeline.local_run import score_objects
    from dpiqa.pipeline.scorers import check_choice, check_profile

    profile, choice = (None, by) if isinstance(by, ModelChoice) else (by, None)
    if choice:
        check_choice(choice, settings)
    if profile:
        check_profile(profile, settings)
    work = _find_work(settings, targets, limit)
    results = []
    with counting("scoring", work.total) as advance:
        for one in score_objects(work.store, work.refs, profile=profile, choice=choice, settings=settings):
            results.append(one)
            advance(1)
    return results


@dataclass(frozen=True, slots=True)
class _Work:
    refs: "Iterable[ImageRef]"
    total: int | None  #: None: not known before the bucket is listed
    store: "Reader"


def _find_work(settings: "Settings", targets: Sequence[str], limit: int | None) -> _Work:
    from dpiqa.cli.support import targets as sources_
    from dpiqa.objects.files import LocalFiles
    from dpiqa.objects.s3 import S3Store

    places = sources_.find_places(targets)
    addresses = [place.address for place in places if place.address]
    if not addresses:
        found = sources_.local_refs(places)[:limit]
        return _Work(found, len(found), LocalFiles())
    store = S3Store.from_settings(settings)
    refs = (ref for address in addresses for ref in sources_.s3_refs(store, address))
    return _Work(islice(refs, limit), limit, store)
