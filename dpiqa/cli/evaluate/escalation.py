"""`dpiqa evaluate escalation`: which criterion should choose the images for a teacher, and whether any pays."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from dpiqa.cli.evaluate.request import (
    CalledOption,
    ReportFolderOption,
    SeedOption,
    SplitOption,
    exit_for,
    note_report,
    parse_dataset,
)
from dpiqa.cli.evaluate.routing import ProfileArgument, mos_choices
from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.cli.support.options import Split
from dpiqa.cli.support.scoring import score_function
from dpiqa.datasets.spec import LabelledImage
from dpiqa.errors import InvalidRequest
from dpiqa.evaluation import escalation as trials
from dpiqa.evaluation.escalation import EscalationScores, try_escalation
from dpiqa.evaluation.paired import PairedScores, pair_scores
from dpiqa.evaluation.routing_trial import check_routes
from dpiqa.evaluation.scored_images import Failure, ScoredImages
from dpiqa.evaluation.views import VIEWS, ViewSpread
from dpiqa.files import expanded
from dpiqa.models.choice import ModelChoice
from dpiqa.pipeline.scorers import load_for_settings
from dpiqa.profiles import load_profile
from dpiqa.settings import Settings
from dpiqa.types import Reason

_STUDENT, _TEACHER, _SECOND, _SPREAD = "student", "teacher", "second", "spread"

SecondOption = Annotated[
    str | None,
    typer.Option(
        help="A second student, cheaper than the first: its disagreement, and the first stage of a cascade.",
        metavar="MODEL",
        autocompletion=options.complete_model,
    ),
]
ViewsOption = Annotated[
    bool, typer.Option("--views", help=f"Also the spread of the student's scores over {len(VIEWS)} views of a picture.")
]
CascadeOption = Annotated[
    float, typer.Option("--cascade-share", min=0.4, max=1, help="Images that the student sees in a cascade, 0.4 to 1.")
]
ScoresOption = Annotated[
    list[str] | None,
    typer.Option(
        "--scores",
        help="Scores that are known: of a model, from the scores.csv of `dpiqa evaluate scores --output`. May be "
        "repeated.",
        metavar="MODEL=FILE",
    ),
]


@command(
    "escalation",
    "dpiqa evaluate escalation default --second bundled-tiny --views --dataset csv --data labels.csv --split val",
    "dpiqa evaluate escalation default --dataset csv --data labels.csv --scores bundled-teacher=report/scores.csv",
)
def escalation(  # noqa: PLR0913 - one parameter per option
    profile: ProfileArgument,
    *,
    second: SecondOption = None,
    views: ViewsOption = False,
    cascade_share: CascadeOption = 0.5,
    dataset: options.DatasetsOption = None,
    data: options.DatasetPathsOption = None,
    called: CalledOption = None,
    split: SplitOption = None,
    scores: ScoresOption = None,
    seed: SeedOption = 0,
    device: options.DeviceOption = None,
    output: ReportFolderOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Compare criteria that choose the images for a profile's teacher, at 5, 10, 20 and 40 % of the images.

    What each gains at the profile's cut-offs over the student alone and over choosing at random, with 95 % intervals:
    the distance to the cut-off, which routing uses, the disagreement with a second student, and the spread over views.
    With a second student also a cascade: it sees all images, the student those near a cut-off, the teacher some of
    these. Exits with status 1 when an image was not scored.
    """
    labelled = parse_dataset(dataset, data, called)
    side = split or Split.TEST
    settings = context.read_settings(device=device)
    tested = load_profile(profile, settings.profiles_dir)
    check_routes(tested)
    choices = mos_choices(tested)
    if second is not None:
        choices[_SECOND] = ModelChoice(model=second)
    known = _known_files(scores, [choice.model for choice in choices.values()])
    images = labelled.images(side.value, seed)
    paired = pair_scores(_score(settings, choices, images, known, views=views))
    cutoffs = [cutoff.at for cutoff in tested.cutoffs]
    trial = try_escalation(_by_role(paired), cutoffs, cascade_share=cascade_share, seed=seed)
    title = f"{tested.id} on {labelled.called} {side}: {trial.n} images"
    models = {role: choice.model for role, choice in choices.items()}
    document = {"data": f"{labelled.called} {side}", "profile": tested.id, "models": models, **trial.as_dict()}
    if output:
        from dpiqa.evaluation.report_files import write_escalation  # noqa: PLC0415 - matplotlib, an extra

        note_report(output, write_escalation(output, trial, title, document), "escalation.md")
    if as_json:
        console.print_json("escalation-trial@1", document)
    else:
        console.table(trials.columns(trial), trials.rows(trial), title=title)
        console.stdout().print(console.plain(trials.summary(trial)))
    exit_for(len(paired.failures))


def _score(
    settings: Settings,
    choices: dict[str, ModelChoice],
    images: Sequence[LabelledImage],
    known: dict[str, Path],
    *,
    views: bool,
) -> dict[str, ScoredImages]:
    """Return the scores by role, one model in memory at a time."""
    scored = {}
    for role, choice in choices.items():
        if choice.model in known:
            scored[role] = _read_scores(known[choice.model], choice.model, images)
        else:
            scored[role] = score_function(settings, load_for_settings(choice, settings))(images)
    if views:
        spread = ViewSpread(load_for_settings(choices[_STUDENT], settings))
        scored[_SPREAD] = score_function(settings, spread)(images)
    return scored


def _by_role(paired: PairedScores) -> EscalationScores:
    columns = dict(zip(paired.names, paired.scores, strict=True))
    return EscalationScores(
        labels=paired.labels,
        student=columns[_STUDENT],
        teacher=columns[_TEACHER],
        second=columns.get(_SECOND),
        spread=columns.get(_SPREAD),
    )


def _known_files(texts: Sequence[str] | None, models: Sequence[str]) -> dict[str, Path]:
    """Read `MODEL=FILE`. Raises `InvalidRequest` for a model that is not asked."""
    files = {}
    for text in texts or ():
        model, _, file = text.partition("=")
        if not file or model not in models:
            raise InvalidRequest(
                f"--scores {text!r} names no model of this comparison",
                hint=f"write MODEL=FILE with one of {', '.join(models)}",
            )
        files[model] = expanded(Path(file))
    return files


def _read_scores(path: Path, model: str, images: Sequence[LabelledImage]) -> ScoredImages:
    """Return the scores of these images from a scores.csv; an image that is not in it counts as not scored.

    Raises `InvalidRequest` for a file that cannot be read, or holds none of the images.
    """
    try:
        with path.open(newline="", encoding="utf-8", errors="backslashreplace") as file:
            rows = {row["image"]: row["score"] for row in csv.DictReader(file)}
        values = np.array([float(rows.get(str(image.path)) or "nan") for image in images])
    except (OSError, KeyError, ValueError) as error:
        raise InvalidRequest(
            f"{path} cannot be read as scores: {error}", hint="name a scores.csv of `dpiqa evaluate scores --output`"
        ) from error
    if not np.isfinite(values).any():
        raise InvalidRequest(
            f"{path} has scores of none of the {len(images)} images",
            hint="make it with the same --data, --split and path",
        )
    missing = {
        image.path: Failure(Reason.REPEATED_ERRORS, f"not in {path.name}")
        for image, value in zip(images, values, strict=True)
        if not np.isfinite(value)
    }
    return ScoredImages(f"{model} by {path.name}", tuple(images), values, missing)
