"""`dpiqa evaluate routing`: whether sending borderline images to the teacher improves decisions."""

from typing import Annotated

import typer

from dpiqa.cli.evaluate.request import (
    CalledOption,
    CardFolderOption,
    CardWriter,
    ReportFolderOption,
    SeedOption,
    SplitOption,
    exit_for,
    note_report,
    parse_dataset,
    score_with_each,
)
from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.cli.support.options import Split
from dpiqa.errors import InvalidRequest
from dpiqa.evaluation import routing_trial as trials
from dpiqa.evaluation.paired import pair_scores
from dpiqa.evaluation.routing_trial import RoutingTrial, card_sections, check_routes, try_routing
from dpiqa.models.cards import find_card
from dpiqa.models.choice import ModelChoice
from dpiqa.pipeline.scorers import check_profile
from dpiqa.profiles import Profile, load_profile

ProfileArgument = Annotated[
    str,
    typer.Argument(
        help="Profile by name or id (`dpiqa profiles list`).",
        show_default=False,
        autocompletion=options.complete_profile,
    ),
]


@command(
    "routing",
    "dpiqa evaluate routing with-teacher --dataset csv --data labels.csv --split val --output report",
)
def routing(  # noqa: PLR0913 - one parameter per option
    ctx: typer.Context,
    profile: ProfileArgument,
    *,
    dataset: options.DatasetsOption = None,
    data: options.DatasetPathsOption = None,
    called: CalledOption = None,
    split: SplitOption = None,
    seed: SeedOption = 0,
    device: options.DeviceOption = None,
    output: ReportFolderOption = None,
    card: CardFolderOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Compare a profile's routing with its student alone and with escalating at random.

    Says whether sending borderline images to the teacher improves decisions. The figures are written into the cards of
    student and teacher. Exits with status 1 when an image was not scored.
    """
    labelled = parse_dataset(dataset, data, called)
    side = split or Split.TEST
    settings = context.read_settings(device=device)
    tested = load_profile(profile, settings.profiles_dir)
    check_routes(tested)
    check_profile(tested, settings)
    choices = mos_choices(tested)
    measured = list(
        {choice.model: find_card(choice.model, settings.models_dir) for choice in choices.values()}.values()
    )
    cards = CardWriter.from_options(ctx, card)
    cards.check(*measured)
    paired = pair_scores(score_with_each(settings, choices, labelled.images(side.value, seed)))
    trial = try_routing(paired, tested, chunk=settings.chunk_items, seed=seed)
    description = f"{labelled.called} {side}"
    document = {"data": description, "failures": len(paired.failures), **trial.as_dict()}
    if output:
        from dpiqa.evaluation.report_files import write_trial  # noqa: PLC0415 - matplotlib, an extra

        note_report(output, write_trial(output, trial, description, document), "routing.md")
    if as_json:
        console.print_json("routing-trial@1", document)
    else:
        _print_tables(trial, description)
    cards.write(measured, card_sections(trial, description), measured=measured)
    exit_for(len(paired.failures))


def mos_choices(profile: Profile) -> dict[str, ModelChoice]:
    """Return student and teacher, in this order. Raises `InvalidRequest` for scores that are not MOS."""
    choices = {stage.value: choice for stage, choice in profile.choices.items()}
    for choice in choices.values():
        if choice.requirement is not None:
            raise InvalidRequest(
                f"{profile.id} scores by the requirement {choice.requirement}, which human MOS says nothing about",
                hint="choose a profile whose models predict MOS",
            )
    return choices


def _print_tables(trial: RoutingTrial, description: str) -> None:
    console.table(trials.columns(trial), trials.rows(trial), title=trials.title(trial, description))
    console.table(
        trials.DISAGREEMENT_COLUMNS, trials.disagreement_rows(trial.disagreement), title="teacher against student"
    )
    console.stdout().print(console.plain(trial.verdict))
