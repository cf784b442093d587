"""`dpiqa score`: images scored in this process, and a summary: the worst, the best, the spread, what was not scored."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any

import numpy as np
import typer

from dpiqa.cli.scores.several import address_of, as_row, name_of, show_several
from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.cli.support.output import Output
from dpiqa.cli.support.progress import counting, duration
from dpiqa.cli.support.targets import local_refs, parse_targets, s3_refs
from dpiqa.errors import InvalidRequest
from dpiqa.exit_codes import ExitCode
from dpiqa.exports.schemas import FILES, OBJECTS
from dpiqa.models.base import ModelCard
from dpiqa.models.cards import find_card
from dpiqa.models.choice import ModelChoice, chosen_card, parse_choice
from dpiqa.objects.s3 import S3Store
from dpiqa.objects.store import LocalFiles
from dpiqa.percentiles import Share, parse_share
from dpiqa.pipeline.local_run import ScoredObject, score_by_each
from dpiqa.pipeline.preparer import Reader
from dpiqa.pipeline.scorers import check_choice, check_profile, database_of
from dpiqa.profiles import Profile
from dpiqa.settings import Settings
from dpiqa.storage.profiles import choice_for
from dpiqa.types import Band, ImageRef, Precision

_FULL_TABLE_ROWS = 25  # up to this number of images all are listed
_END_ROWS = 8  # images listed of either end otherwise
_PERCENTILES = (5, 25, 50, 75, 95)

TargetsArgument = Annotated[
    list[str],
    typer.Argument(help="Files, folders (searched recursively) or s3://bucket/prefix.", metavar="PATH|S3_ADDRESS..."),
]
ModelsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        help="Model by name (`dpiqa models list`). May be repeated: each image is read once and scored by each.",
    ),
]
LimitOption = Annotated[int | None, typer.Option("--limit", "-n", min=1, help="Score only the first N images.")]
RequirementOption = Annotated[
    str | None,
    typer.Option("--requirement", "-r", help="Score by this requirement: NAME (its newest version) or NAME@VERSION."),
]
PrecisionOption = Annotated[
    Precision | None, typer.Option("--precision", help="Arithmetic of --model; its card's by default.")
]
ChannelsLastOption = Annotated[
    bool | None,
    typer.Option("--channels-last/--no-channels-last", help="Memory format of --model; its card's by default."),
]
WorstOption = Annotated[
    str | None,
    typer.Option(help="Show only images as bad as the worst share of the reference population, e.g. 5%."),
]
BestOption = Annotated[
    str | None, typer.Option(help="Show only images as good as the best share of that population, e.g. 5%.")
]


@command(
    "score",
    "dpiqa score ~/Pictures",
    "dpiqa score photo.jpg --model bundled-student --json",
    "dpiqa score ~/Pictures --model bundled-student --precision bfloat16",
    "dpiqa score ~/Pictures --model bundled-student --model dpiqa-student-koniq --output scores.csv",
    "dpiqa score ~/Pictures --requirement portraits",
    "dpiqa score ~/Pictures --worst 5% --output worst.csv",
    "dpiqa score s3://photos/2024/ --profile default --output scores.csv",
)
def score(  # noqa: PLR0913 - one parameter per option
    targets: TargetsArgument,
    *,
    model: ModelsOption = None,
    requirement: RequirementOption = None,
    precision: PrecisionOption = None,
    channels_last: ChannelsLastOption = None,
    profile: options.ProfilesOption = None,
    worst: WorstOption = None,
    best: BestOption = None,
    limit: LimitOption = None,
    device: options.DeviceOption = None,
    as_json: options.JsonOption = False,
    output: options.OutputOption = None,
    format: options.FormatOption = None,  # noqa: A002 - its name
) -> None:
    """Score images in this process: no queue, no database. For a folder or a quick look.

    With a profile (the default), its student scores every image and its teacher the borderline ones; with --model or
    --requirement (which is read from the database), that one scores all. Several models or profiles have a column
    each; those that share a preprocessing share the decoded image. Exits with status 1 when an image was not scored.

    Percentiles, bands and --worst compare with the reference population of the model's card (`dpiqa models show`), not
    with the other images: 5% may be none or all of them. Images without a score are shown in any case.
    """
    arithmetic = {"precision": precision, "channels_last": channels_last}
    _check_options(model, requirement, profile, arithmetic)
    shown = Output.parse(as_json=as_json, output=output, format=format)
    started = time.monotonic()
    settings = context.read_settings(device=device)
    share = parse_share(worst, best, field="--{}")
    scored_by = _scored_by(settings, model or [], requirement, profile, arithmetic)
    if share:
        _require_references(settings, scored_by)
    rows = _score(settings, targets, scored_by, limit)
    elapsed = time.monotonic() - started
    if len(scored_by) > 1:
        show_several(shown, [name_of(by) for by in scored_by], rows, elapsed, settings)
        return
    images = [row for (row,) in rows]
    listed = _images_in(share, images) if share else images
    schema = OBJECTS if images and images[0].ref.bucket else FILES
    if output:
        shown.export(schema, iter([schema.columns_of([as_row(image) for image in listed])]), settings)
    elif as_json:
        console.print_json_array(schema.id, map(as_row, listed))
    if not as_json:
        show_summary(images, elapsed, listed=() if output else listed)
    if any(image.score is None for image in images):
        raise typer.Exit(ExitCode.INCOMPLETE)


def _check_options(
    model: list[str] | None, requirement: str | None, profile: list[str] | None, arithmetic: dict[str, Any]
) -> None:
    """Raise `InvalidRequest` for options that contradict each other."""
    if model and len(model) > 1 and (requirement or any(value is not None for value in arithmetic.values())):
        raise InvalidRequest(
            "--requirement, --precision and --channels-last go with one --model",
            hint="write a profile for each choice (docs/profiles.md), and repeat --profile",
        )
    if profile and (model or requirement):
        option = "--model" if model else "--requirement"
        raise InvalidRequest(f"{option} and --profile cannot be combined", hint="pass only one")
    if not (model or requirement) and any(value is not None for value in arithmetic.values()):
        raise InvalidRequest(
            "--precision and --channels-last need --model", hint="name the model; profiles name theirs"
        )


def _scored_by(
    settings: Settings,
    models: list[str],
    requirement: str | None,
    profiles: list[str] | None,
    arithmetic: dict[str, Any],
) -> list[Profile] | list[ModelChoice]:
    """Return the models or the profiles that the options name, each once. Raises `InvalidRequest`."""
    if len(set(models)) < len(models):
        raise InvalidRequest("a model is named twice", hint="name each model once")
    if models:
        return [_model_choice(settings, model, requirement, arithmetic) for model in models]
    if requirement:
        return [_model_choice(settings, None, requirement, arithmetic)]
    return context.profiles(settings, profiles)


def _model_choice(
    settings: Settings, model: str | None, requirement: str | None, arithmetic: dict[str, Any]
) -> ModelChoice:
    """Return the choice that the options make; a requirement without --model brings its own model."""
    if requirement and not model:
        with database_of(settings) as connection:
            own = choice_for(connection, requirement)
        model, requirement = own.model, own.requirement
    return parse_choice(model=model, requirement=requirement, **arithmetic)


def _score(
    settings: Settings, targets: Sequence[str], scored_by: Sequence[Profile | ModelChoice], limit: int | None
) -> list[list[ScoredObject]]:
    """Score the targets, one result for each of `scored_by`. Raises before any is fetched if a model cannot run."""
    for by in scored_by:
        if isinstance(by, ModelChoice):
            check_choice(by, settings)
        else:
            check_profile(by, settings)
    work = _find_work(settings, targets, limit)
    rows = []
    with counting("scoring", work.total) as advance:
        for row in score_by_each(work.store, work.refs, scored_by, settings=settings):
            rows.append(row)
            advance(1)
    return rows


@dataclass(frozen=True, slots=True)
class _Work:
    refs: Iterable[ImageRef]
    total: int | None  #: None: not known before the bucket is listed
    store: Reader


def _find_work(settings: Settings, words: Sequence[str], limit: int | None) -> _Work:
    targets = parse_targets(words)
    addresses = [target.address for target in targets if target.address]
    if not addresses:
        files = local_refs(targets)[:limit]
        return _Work(files, len(files), LocalFiles())
    store = S3Store.from_settings(settings)
    refs = (ref for address in addresses for ref in s3_refs(store, address))
    return _Work(islice(refs, limit), limit, store)


def _images_in(share: Share, images: Sequence[ScoredObject]) -> list[ScoredObject]:
    """Return the images in the share and those without a score; says on stderr which populations were compared."""
    scored = [image for image in images if image.score is not None]
    selected = [
        image
        for image in images
        if image.score is None or (image.reference is not None and image.reference.among(image.score, share))
    ]
    n_selected = sum(image.score is not None for image in selected)
    end = "worst" if share.worst else "best"
    populations = sorted(
        {f"{image.reference.n} images, {image.reference.population}" for image in scored if image.reference}
    )
    console.note(
        f"{n_selected} of {len(scored)} scored images are among the {end} {share.percent:g}% "
        f"of the reference population ({'; '.join(populations) or 'there is none'})"
    )
    if without := sum(image.reference is None for image in scored):
        console.warn(f"{without} images are left out: their scorer has no reference")
    return selected


def _require_references(settings: Settings, scored_by: Sequence[Profile | ModelChoice]) -> None:
    """Raise `InvalidRequest` if a model that may score has no reference: before it scores, not after."""
    if len(scored_by) > 1:
        raise InvalidRequest("--worst and --best need one model or profile", hint="sort the exported scores instead")
    (by,) = scored_by
    for choice in [by] if isinstance(by, ModelChoice) else by.choices.values():
        card = chosen_card(find_card(choice.model, settings.models_dir), choice)
        if not _has_reference(card, choice.requirement):
            raise InvalidRequest(
                f"{choice} has no reference population, so it has no shares",
                hint=f"`dpiqa models reference {choice.model}` makes one; or sort the scores themselves",
            )


def _has_reference(card: ModelCard, requirement: str | None) -> bool:
    """Return whether scores may have a percentile. The newest version of a requirement is not known yet."""
    versions = {
        reference.requirement
        for reference in card.references
        if reference.requirement and reference.requirement.partition("@")[0] == requirement
    }
    return any(
        card.model_copy(update={"requirement": version}).reference is not None for version in versions | {requirement}
    )


def show_summary(images: Sequence[ScoredObject], seconds: float, *, listed: Sequence[ScoredObject]) -> None:
    """Print tables of the `listed` images on stdout and lines about the whole run on stderr."""
    ordered = worst_first([image for image in listed if image.score is not None])
    _show_scores(ordered)
    if len(ordered) > 2:
        columns = [f"{percent} %" for percent in _PERCENTILES]
        values = percentiles([image.score for image in ordered if image.score is not None])
        console.table(columns, [values], title="share of images with a score below")
    bands = Counter(image.band for image in ordered if image.band)
    if bands:
        console.table([band.value for band in Band], [[bands[band] for band in Band]], title="images by band")
    _show_failures([image for image in listed if image.score is None])
    _note_run(images, seconds)


def worst_first(scored: Iterable[ScoredObject]) -> list[ScoredObject]:
    """Order by score, the worst first, whichever end that is on the scorer's scale; then by key."""

    def rank(image: ScoredObject) -> tuple[float, str]:
        score = image.score or 0.0
        return (-score if image.lower_is_better else score, image.ref.key)

    return sorted(scored, key=rank)


def percentiles(scores: Sequence[float]) -> list[float]:
    """Return the values below which 5, 25, 50, 75 and 95 percent of the scores (not empty) lie; interpolated."""
    return [float(value) for value in np.percentile(scores, _PERCENTILES)]


def _show_scores(ordered: Sequence[ScoredObject]) -> None:
    columns = ("score", "percentile", "band", "image", "model", "route")
    rows = [
        (
            image.score,
            console.percent(image.percentile),
            image.band,
            address_of(image),
            image.model or "",
            image.route or "",
        )
        for image in ordered
    ]
    if len(rows) > _FULL_TABLE_ROWS:
        console.table(columns, rows[:_END_ROWS], title=f"the worst {_END_ROWS}")
        console.table(columns, rows[-_END_ROWS:], title=f"the best {_END_ROWS}")
    elif rows:
        console.table(columns, rows, title="worst first")


def _show_failures(failures: Sequence[ScoredObject]) -> None:
    if failures:
        rows = [(image.reason, address_of(image), image.detail) for image in failures[:_FULL_TABLE_ROWS]]
        more = f", the first {_FULL_TABLE_ROWS}" if len(failures) > _FULL_TABLE_ROWS else ""
        console.table(("reason", "image", "detail"), rows, title=f"not scored: {len(failures)}{more}")


def _note_run(images: Sequence[ScoredObject], seconds: float) -> None:
    """Print on stderr how many images were scored, how fast, by which models and on which scale."""
    scored = [image for image in images if image.score is not None]
    models = ", ".join(f"{model} {count}" for model, count in Counter(image.model for image in scored).most_common())
    rate = f"{len(images) / seconds:.1f}/s" if seconds > 0 else ""
    console.note(
        f"{len(scored)} of {len(images)} images scored in {duration(seconds)}, {rate}, models loaded included"
        f"{f' ({models})' if models else ''}."
    )
    for scale in sorted({image.scale for image in scored if image.scale}):
        console.note(f"score: {scale}")
    populations = {f"{image.reference.n} images, {image.reference.population}" for image in scored if image.reference}
    for population in sorted(populations):
        console.note(f"percentile and band: by the reference population ({population}); 100 is best")
