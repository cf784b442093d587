"""`dpiqa evaluate MODEL MODEL...`: several models on one data set, with intervals of their differences."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dpiqa.cli.evaluate.request import Request, check_cards, images_of, scored_by, write_cards
from dpiqa.cli.support import console

if TYPE_CHECKING:
    from dpiqa.evaluation.comparison import Comparison


def run(request: Request, models: Sequence[str], *, seeds: bool) -> int:
    """Compare and show; returns how many images some model did not score. The card written is the first model's."""
    from dpiqa.evaluation.comparison import card_sections, compare
    from dpiqa.evaluation.paired import pair_scores
    from dpiqa.models.cards import find_card
    from dpiqa.models.choice import parse_choice
    from dpiqa.pipeline.scorers import check_choice

    choices = {name: parse_choice(model=name) for name in models}
    for choice in choices.values():
        check_choice(choice, request.settings)
    cards = [find_card(name, request.settings.models_dir) for name in models]
    check_cards(request, cards[:1])
    images = images_of(request)
    found = compare(pair_scores(scored_by(request, choices, images)), seed=request.seed)
    _deliver(request, found, seeds=seeds)
    write_cards(request, cards[:1], card_sections(found, request.data, seeds=seeds), measured=cards)
    return len(found.paired.failures)


def _deliver(request: Request, found: "Comparison", *, seeds: bool) -> None:
    from dpiqa.evaluation import comparison as report

    document = report.report(found, request.data)
    if request.output:
        from dpiqa.evaluation.report_files import write_comparison

        written = write_comparison(request.output, found, request.data, document, seeds=seeds)
        console.note(f"{len(written)} files in {request.output}, comparison.md among them")
    if request.as_json:
        console.print_json(document)
        return
    console.table(report.COLUMNS, report.rows(found), title=f"{request.data}; differences from {found.paired.names[0]}")
    if seeds:
        console.table(report.SPREAD_COLUMNS, report.spread_rows(found), title="over the runs")
    else:
        console.table(report.PAIR_COLUMNS, report.pair_rows(found), title=f"scores against {found.paired.names[0]}")
