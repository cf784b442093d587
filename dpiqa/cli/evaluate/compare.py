"""`dpiqa evaluate compare`: several models on one data set, with intervals of their differences."""

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
from dpiqa.evaluation import comparison as comparisons
from dpiqa.evaluation.comparison import Comparison, card_sections
from dpiqa.evaluation.paired import pair_scores
from dpiqa.models.cards import find_card
from dpiqa.models.choice import parse_choice
from dpiqa.pipeline.scorers import check_choice

ModelsArgument = Annotated[
    list[str],
    typer.Argument(
        help="Models, as `dpiqa models list` names them; each is compared with the first.",
        metavar="MODEL",
        show_default=False,
        autocompletion=options.complete_model,
    ),
]
SeedsOption = Annotated[
    bool, typer.Option("--seeds", help="The models are runs with different seeds: give mean, deviation and range.")
]


@command(
    "compare",
    "dpiqa evaluate compare my-student my-teacher --dataset csv --data labels.csv --split val",
    "dpiqa evaluate compare run-0 run-1 run-2 --seeds --dataset csv --data labels.csv --split val --card models",
)
def compare(  # noqa: PLR0913 - one parameter per option
    ctx: typer.Context,
    models: ModelsArgument,
    *,
    dataset: options.DatasetsOption = None,
    data: options.DatasetPathsOption = None,
    called: CalledOption = None,
    split: SplitOption = None,
    seeds: SeedsOption = False,
    seed: SeedOption = 0,
    device: options.DeviceOption = None,
    output: ReportFolderOption = None,
    card: CardFolderOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Compare several models on one data set, with 95 % intervals of their differences from the first.

    The figures are written into the first model's card. Exits with status 1 when some model did not score an image.
    """
    labelled = parse_dataset(dataset, data, called)
    if len(models) < 2:
        raise InvalidRequest("one model cannot be compared", hint="name two or more")
    if len(set(models)) < len(models):
        raise InvalidRequest("a model is named twice", hint="name each once")
    side = split or Split.TEST
    settings = context.read_settings(device=device)
    choices = {name: parse_choice(model=name) for name in models}
    for choice in choices.values():
        check_choice(choice, settings)
    measured = [find_card(name, settings.models_dir) for name in models]
    cards = CardWriter.from_options(ctx, card)
    cards.check(measured[0])
    images = labelled.images(side.value, seed)
    comparison = comparisons.compare(pair_scores(score_with_each(settings, choices, images)), seed=seed)
    description = f"{labelled.called} {side}"
    document = comparisons.report(comparison, description)
    if output:
        from dpiqa.evaluation.report_files import write_comparison  # noqa: PLC0415 - matplotlib, an extra

        files = write_comparison(output, comparison, description, document, seeds=seeds)
        note_report(output, files, "comparison.md")
    if as_json:
        console.print_json("comparison@1", document)
    else:
        _print_tables(comparison, description, seeds=seeds)
    cards.write(measured[:1], card_sections(comparison, description, seeds=seeds), measured=measured)
    exit_for(len(comparison.paired.failures))


def _print_tables(comparison: Comparison, description: str, *, seeds: bool) -> None:
    first = comparison.paired.names[0]
    console.table(comparisons.COLUMNS, comparisons.rows(comparison), title=f"{description}; differences from {first}")
    if seeds:
        console.table(comparisons.SPREAD_COLUMNS, comparisons.spread_rows(comparison), title="over the runs")
    else:
        console.table(comparisons.PAIR_COLUMNS, comparisons.pair_rows(comparison), title=f"scores against {first}")
