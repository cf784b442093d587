"""`dpiqa evaluate MODEL --dataset ...`: one model against people's scores, on one or more data sets."""

from typing import TYPE_CHECKING

from dpiqa.cli.evaluate.request import Protocol, Request, check_cards, scoring, write_cards
from dpiqa.cli.support import console, scorers

if TYPE_CHECKING:
    from dpiqa.evaluation.measurement import Measurement
    from dpiqa.models.base import ModelCard, Scorer


def run(request: Request, model: str) -> int:
    """Measure and show; returns how many images were not scored."""
    from dpiqa.evaluation.report import card_sections

    scorer = scorers.load(request.settings, model, request.requirement)
    check_cards(request, [scorer.card])
    measured = _measure(request, scorer)
    _deliver(request, scorer.card, measured)
    sections = {name: section for one in measured for name, section in card_sections(one).items()}
    write_cards(request, [scorer.card], sections, measured=[scorer.card])
    return sum(len(one.evaluation.failures) for one in measured)


def _measure(request: Request, scorer: "Scorer") -> "list[Measurement]":
    """Read all data sets, so that a wrong folder is found at once, then measure on one after the other."""
    from dpiqa.datasets import load_dataset
    from dpiqa.datasets.load import PUBLISHED
    from dpiqa.datasets.splits import five_splits
    from dpiqa.evaluation import measurement
    from dpiqa.evaluation.contamination import contamination

    split, seed = request.split, request.seed
    read = [(request.called or name, load_dataset(name, place, split_seed=seed)) for name, place in request.sets]
    score = scoring(request.settings, scorer)
    measured = []
    for name, found in read:
        if request.protocol is Protocol.FIVE_SPLITS:
            note = contamination(scorer.card, name, "test", published=False)
            sides = [[found.images[row] for row in one.test] for one in five_splits(found.images, seed=seed)]
            measured.append(measurement.measure_five(sides, score, dataset=name, note=note, seed=seed))
        else:
            note = contamination(scorer.card, name, split, published=found.split == PUBLISHED)
            one = measurement.measure(
                found.images, score, dataset=name, split=split, origin=found.split, note=note, seed=seed
            )
            measured.append(one)
    return measured


def _deliver(request: Request, card: "ModelCard", measured: "list[Measurement]") -> None:
    from dpiqa.evaluation import report

    document = report.as_dict(card, measured)
    if request.output:
        from dpiqa.evaluation.report_files import write_evaluation

        written = write_evaluation(request.output, card, measured, document)
        console.note(f"{len(written)} files in {request.output}, evaluation.md among them")
    if request.as_json:
        console.print_json(document)
    elif len(measured) == 1:
        console.fields(zip(report.COLUMNS, report.rows(measured)[0], strict=True))
    else:
        console.table(report.COLUMNS, report.rows(measured))
