"""`dpiqa evaluate scores`: one model against human scores, on one or more data sets."""

from enum import StrEnum
from typing import Annotated

import typer

from dpiqa.cli.evaluate.request import (
    CalledOption,
    CardFolderOption,
    CardWriter,
    DataSet,
    ReportFolderOption,
    SeedOption,
    SplitOption,
    exit_for,
    note_report,
    parse_datasets,
)
from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.cli.support.options import Split
from dpiqa.cli.support.scoring import load_scorer, score_function
from dpiqa.datasets import load_dataset
from dpiqa.datasets.load import PUBLISHED
from dpiqa.datasets.splits import five_splits
from dpiqa.errors import InvalidRequest
from dpiqa.evaluation import report
from dpiqa.evaluation.contamination import contamination
from dpiqa.evaluation.measurement import Measurement, measure, measure_five
from dpiqa.evaluation.report import card_sections
from dpiqa.models.base import Scorer
from dpiqa.settings import Settings


class Protocol(StrEnum):
    """Choice of the images that count."""

    OFFICIAL = "official"  #: one split: the set's own where it has one, else a seeded one
    FIVE_SPLITS = "five-splits"  #: the median over the test sides of five random 80/20 splits


ProtocolOption = Annotated[
    Protocol, typer.Option(help="official: one split. five-splits: the median over five random ones, as in the papers.")
]


@command(
    "scores",
    "dpiqa evaluate scores bundled-student --dataset koniq10k --data ~/data/koniq10k --output report",
    "dpiqa evaluate scores my-student --dataset csv --data labels.csv --split val --json",
    "dpiqa evaluate scores my-student --dataset clive --data ~/clive --dataset spaq --data ~/spaq --split all",
)
def scores(  # noqa: PLR0913 - one parameter per option
    ctx: typer.Context,
    model: options.ModelArgument,
    *,
    dataset: options.DatasetsOption = None,
    data: options.DatasetPathsOption = None,
    called: CalledOption = None,
    split: SplitOption = None,
    protocol: ProtocolOption = Protocol.OFFICIAL,
    requirement: options.RequirementOption = None,
    seed: SeedOption = 0,
    device: options.DeviceOption = None,
    output: ReportFolderOption = None,
    card: CardFolderOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Compare a model's scores with human scores: SRCC, PLCC, KRCC and RMSE with 95 % intervals.

    Through the same decoding, preprocessing and scorer as in production. PLCC and RMSE are also given after the usual
    four-parameter logistic mapping. Several data sets make one table. Exits with status 1 when an image was not scored:
    failures are counted, never dropped.
    """
    datasets = parse_datasets(dataset, data, called)
    if split and protocol is Protocol.FIVE_SPLITS:
        raise InvalidRequest("--protocol five-splits makes its own splits", hint="leave --split out")
    settings = context.read_settings(device=device)
    scorer = load_scorer(settings, model, requirement)
    cards = CardWriter.from_options(ctx, card)
    cards.check(scorer.card)
    results = _measure(
        settings, scorer, datasets, None if protocol is Protocol.FIVE_SPLITS else split or Split.TEST, seed
    )
    document = report.as_dict(scorer.card, results)
    if output:
        from dpiqa.evaluation.report_files import write_evaluation  # noqa: PLC0415 - matplotlib, an extra

        note_report(output, write_evaluation(output, scorer.card, results, document), "evaluation.md")
    if as_json:
        console.print_json("evaluation@1", document)
    elif len(results) == 1:
        console.fields(zip(report.COLUMNS, report.rows(results)[0], strict=True))
    else:
        console.table(report.COLUMNS, report.rows(results))
    sections = {name: section for result in results for name, section in card_sections(result).items()}
    cards.write([scorer.card], sections, measured=[scorer.card])
    exit_for(sum(len(result.evaluation.failures) for result in results))


def _measure(
    settings: Settings, scorer: Scorer, datasets: list[DataSet], split: Split | None, seed: int
) -> list[Measurement]:
    """Read all data sets, so that a wrong folder is found at once, then measure on one after the other.

    `split` None: five random splits.
    """
    labelled = [(dataset, load_dataset(dataset.name, dataset.path, split_seed=seed)) for dataset in datasets]
    score = score_function(settings, scorer)
    results = []
    for dataset, labels in labelled:
        name, images = dataset.called, labels.images
        if split is None:
            note = contamination(scorer.card, name, "test", published=False)
            sides = [[images[index] for index in sides.test] for sides in five_splits(images, seed=seed)]
            result = measure_five(sides, score, dataset=name, note=note, seed=seed)
        else:
            note = contamination(scorer.card, name, split.value, published=labels.split == PUBLISHED)
            result = measure(images, score, dataset=name, split=split.value, origin=labels.split, note=note, seed=seed)
        results.append(result)
    return results
